//! Topics and their content for the scenarios.

use std::time::Duration;

use millstream_kafka::records::Compression;

use super::load::{self, Load};
use super::server::{Kind, Server};

/// Partitions, and so connections, of the fetch scenarios.
pub const FETCH_PARTITIONS: usize = 2;

/// Connections of the produce scenarios.
pub const CONNECTIONS: usize = 4;

/// Makes a topic. Kafka keeps the files of a deleted topic for a minute by default, which fills the disk here.
pub fn topic(server: &Server, name: &str, partitions: usize) -> anyhow::Result<()> {
    let configs: &[_] = match server.kind {
        Kind::Kafka => &[("file.delete.delay.ms", "0")],
        Kind::Millstream => &[],
    };
    server.client()?.create_topic(name, partitions, configs)
}

/// A load on `topic`: batches of 64 KiB for one partition, of 16 KiB for each of several in one request.
pub fn load(
    server: &Server,
    topic: &str,
    partitions: usize,
    record_bytes: usize,
    codec: Compression,
) -> anyhow::Result<Load> {
    let target = if partitions == 1 { 64 << 10 } else { 16 << 10 };
    let records = target / (record_bytes + RECORD_OVERHEAD_BYTES);
    Ok(Load {
        address: server.address.clone(),
        topic: topic.to_owned(),
        partitions: (0..partitions).collect(),
        batches_per_request: partitions,
        batch: load::batch(records, record_bytes, codec)?,
        records_per_batch: records,
        connections: CONNECTIONS,
    })
}

/// Fills a topic of `partitions` with `bytes` or a little more in all, in records of 1 KiB.
pub fn fill(server: &Server, name: &str, partitions: usize, bytes: u64) -> anyhow::Result<()> {
    topic(server, name, partitions)?;
    let load = Load {
        batches_per_request: partitions,
        ..load(server, name, partitions, 1024, Compression::None)?
    };
    let mut done = 0;
    while done < bytes {
        done += load.run_flat_out(Duration::from_millis(500))?.bytes;
    }
    Ok(())
}

const RECORD_OVERHEAD_BYTES: usize = 9;
