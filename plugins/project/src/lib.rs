mod projection;
pub use projection::Projection;
