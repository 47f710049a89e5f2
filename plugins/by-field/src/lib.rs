//! Partitioner: chooses the partition by a JSON field, a header or the key, hashed as Kafka's clients do, or by ranges.

pub mod murmur2;
mod routing;

pub use routing::{Parts, Routing, Unroutable};

use millstream_plugin::{Partitioner, Record, partitioner};

impl Parts for Record<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.value()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.header(name)
    }
}

#[partitioner]
impl Partitioner for Routing {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Routing::configure(config)?)
    }

    fn partition(&mut self, record: &Record<'_>, partitions: u32) -> Result<u32, String> {
        self.partition(record, partitions)
            .map_err(|unroutable| unroutable.to_string())
    }
}
