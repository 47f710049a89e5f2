//! Transform: keeps some fields of JSON records, or drops some.

mod projection;

pub use projection::Projection;
