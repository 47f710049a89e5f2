pub mod murmur2;
mod routing;
pub use routing::{Parts, Routing, Source, Unroutable};
