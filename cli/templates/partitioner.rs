//! A partitioner: records whose values begin with the same byte go to the same partition.

use millstream_plugin::{Partitioner, Record, partitioner};

struct Plugin;

#[partitioner]
impl Partitioner for Plugin {
    /// Reads the configuration, once. An error is shown to whoever attaches the plugin.
    fn configure(_config: &[u8]) -> Result<Self, String> {
        Ok(Plugin)
    }

    /// Called for each record: its partition, less than `partitions`. `Err("why".into())` reports it as an error.
    fn partition(&mut self, record: &Record<'_>, partitions: u32) -> Result<u32, String> {
        let first = record
            .value()
            .and_then(|value| value.first())
            .ok_or("the record is empty")?;
        Ok(u32::from(*first) % partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_first_byte_is_the_same_partition() {
        let mut plugin = Plugin::configure(b"").unwrap();
        let partition = plugin.partition(&Record::new().with_value("alpha"), 6);
        assert_eq!(
            plugin.partition(&Record::new().with_value("atlas"), 6),
            partition
        );
        assert!(plugin.partition(&Record::new(), 6).is_err());
    }
}
