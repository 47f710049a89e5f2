//! Partitioner: chooses the partition by a JSON field, a header or the key, hashed as Kafka's clients do, or by ranges.

pub mod murmur2;
mod routing;

pub use routing::{Parts, Routing, Unroutable};
