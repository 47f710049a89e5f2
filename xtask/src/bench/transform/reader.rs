//! Reads what is committed, and sees that it is what the transform makes.

use std::io::Write;

use anyhow::ensure;
use millstream_kafka::records::{Scratch, batches};

use super::super::wire::{self, Isolation};

/// Records of all partitions of a topic that are committed now.
pub fn count(address: &str, topic: &str, partitions: usize) -> anyhow::Result<u64> {
    let ends = wire::Client::connect(address)?.ends(topic, partitions, Isolation::Committed)?;
    let mut records = 0;
    for (partition, last) in ends.into_iter().enumerate() {
        let end = |offset: i64| offset >= last;
        read(address, topic, partition, 0, NO_WAIT, end, |timestamps_ms| {
            records += timestamps_ms.len() as u64;
        })?;
    }
    Ok(records)
}

/// Reads a partition from an offset on, until `end` says so, which is told the next one; gives the timestamps of each answer to
/// `each`. The server waits up to `wait_ms` for something to come.
pub fn read(
    address: &str,
    topic: &str,
    partition: usize,
    mut offset: i64,
    wait_ms: i32,
    end: impl Fn(i64) -> bool,
    mut each: impl FnMut(&[i64]),
) -> anyhow::Result<()> {
    let mut stream = wire::connect(address)?;
    let (mut answer, mut scratch, mut timestamps_ms) = (Vec::new(), Scratch::new(), Vec::new());
    while !end(offset) {
        stream.write_all(&wire::fetch_committed(
            topic,
            partition,
            offset,
            wait_ms,
            FETCH_BYTES,
        ))?;
        wire::read_frame(&mut stream, &mut answer)?;
        timestamps_ms.clear();
        for batch in batches(wire::fetched(&answer)?).map_while(Result::ok) {
            let header = batch.header();
            // A batch may begin before the offset that was asked for, and a marker is no record.
            if !header.attributes.is_control() {
                for record in batch.records(&mut scratch, DECOMPRESSED_MAX)? {
                    let record = record?;
                    let value = record.value.unwrap_or_default();
                    ensure!(
                        value.starts_with(br#"{"carrier":"#) && value.ends_with(b"}"),
                        "a record of {topic} is another: {}",
                        String::from_utf8_lossy(value)
                    );
                    if record.offset >= offset {
                        timestamps_ms.push(record.timestamp);
                    }
                }
            }
            offset = header.next_offset();
        }
        each(&timestamps_ms);
    }
    Ok(())
}

const NO_WAIT: i32 = 0;
const FETCH_BYTES: i32 = 1 << 20;
const DECOMPRESSED_MAX: usize = 64 << 20;
