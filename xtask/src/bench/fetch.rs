//! Fetch loads: connections that read partitions from the front, again and again.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use millstream_kafka::records::{BatchHeader, batches};

use super::load::Outcome;
use super::wire;

/// What is fetched.
#[derive(Debug, Clone)]
pub struct Fetches {
    pub address: String,
    pub topic: String,
    /// One connection reads each of these partitions.
    pub partitions: usize,
    pub partition_bytes_max: i32,
}

impl Fetches {
    /// Reads for `duration`; from the front again at the end.
    pub fn run(&self, duration: Duration) -> anyhow::Result<Outcome> {
        self.on_each_partition(|fetches, stream, partition| fetches.read(stream, partition, Some(duration)))
    }

    /// Reads everything once.
    pub fn run_once(&self) -> anyhow::Result<Outcome> {
        self.on_each_partition(|fetches, stream, partition| fetches.read(stream, partition, None))
    }

    fn on_each_partition(
        &self,
        read: impl Fn(&Self, TcpStream, usize) -> anyhow::Result<Outcome> + Sync,
    ) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let parts = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.partitions)
                .map(|partition| {
                    let read = &read;
                    scope.spawn(move || read(self, wire::connect(&self.address)?, partition))
                })
                .collect();
            let join =
                |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("a fetch thread panicked");
            threads.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
        })?;
        let mut all = Outcome {
            seconds: start.elapsed().as_secs_f64(),
            ..Outcome::default()
        };
        for part in parts {
            all.bytes += part.bytes;
            all.records += part.records;
        }
        Ok(all)
    }

    fn read(
        &self,
        mut stream: TcpStream,
        partition: usize,
        duration: Option<Duration>,
    ) -> anyhow::Result<Outcome> {
        use std::io::Write;
        let start = Instant::now();
        let (mut outcome, mut answer, mut offset) = (Outcome::default(), Vec::new(), 0);
        loop {
            if duration.is_some_and(|duration| start.elapsed() >= duration) {
                return Ok(outcome);
            }
            stream.write_all(&wire::fetch(
                &self.topic,
                partition,
                offset,
                self.partition_bytes_max,
            ))?;
            wire::read_frame(&mut stream, &mut answer)?;
            let records = wire::fetched(&answer)?;
            if records.is_empty() {
                ensure!(offset > 0, "partition {partition} of {} is empty", self.topic);
                if duration.is_none() {
                    return Ok(outcome);
                }
                offset = 0;
                continue;
            }
            outcome.bytes += records.len() as u64;
            let (next, count) = walk(records)?;
            outcome.records += count;
            offset = next;
        }
    }
}

/// The offset behind the last whole batch, and how many records there are. A batch that is cut at the end is left.
fn walk(records: &[u8]) -> anyhow::Result<(i64, u64)> {
    let mut last: Option<BatchHeader> = None;
    let mut count = 0;
    for batch in batches(records).map_while(Result::ok) {
        count += batch.header().records_count as u64;
        last = Some(*batch.header());
    }
    Ok((
        last.context("an answer holds no whole batch")?.next_offset(),
        count,
    ))
}
