//! Produce loads: as fast as the server answers, or at a steady rate with the time each answer took.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use millstream_kafka::records::{BatchBuilder, Compression};

use super::wire;

/// What is produced.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: String,
    pub topic: String,
    pub partitions: Vec<usize>,
    /// Partitions in one request, one batch for each.
    pub batches_per_request: usize,
    pub batch: Vec<u8>,
    pub records_per_batch: usize,
    pub connections: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub seconds: f64,
    /// Bytes of batches that were acknowledged.
    pub bytes: u64,
    pub records: u64,
    /// Microseconds from when a request was due to its answer, sorted.
    pub latencies_us: Vec<u64>,
}

impl Outcome {
    pub fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6
    }

    pub fn megabytes_per_second(&self) -> f64 {
        self.megabytes() / self.seconds
    }

    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// Milliseconds that this share of the answers took at most.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies_us.get(at).map_or(f64::NAN, |us| *us as f64 / 1e3)
    }

    /// What several loads came to, that ran at the same time.
    pub fn join(parts: Vec<Self>, seconds: f64) -> Self {
        let mut all = Self {
            seconds,
            ..Self::default()
        };
        for part in parts {
            all.bytes += part.bytes;
            all.records += part.records;
            all.latencies_us.extend(part.latencies_us);
        }
        all.latencies_us.sort_unstable();
        all
    }
}

impl Load {
    /// Sends for `duration`, with five requests in flight on each connection.
    pub fn run_flat_out(&self, duration: Duration) -> anyhow::Result<Outcome> {
        self.on_each_connection(|load, stream, frames| load.flat_out(stream, &frames, duration))
    }

    /// Sends `megabytes_per_second` for `duration`, however long the answers take.
    pub fn run_paced(&self, megabytes_per_second: f64, duration: Duration) -> anyhow::Result<Outcome> {
        let request_bytes = (self.batch.len() * self.batches_per_request * self.connections) as f64;
        let interval = Duration::from_secs_f64(request_bytes / 1e6 / megabytes_per_second);
        self.on_each_connection(|load, stream, frames| load.paced(stream, &frames, interval, duration))
    }

    fn on_each_connection(
        &self,
        run: impl Fn(&Self, TcpStream, Vec<Vec<u8>>) -> anyhow::Result<Outcome> + Sync,
    ) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let parts = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|connection| {
                    let run = &run;
                    scope.spawn(move || run(self, wire::connect(&self.address)?, self.frames(connection)))
                })
                .collect();
            let join =
                |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("a load thread panicked");
            threads.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
        })?;
        Ok(Outcome::join(parts, start.elapsed().as_secs_f64()))
    }

    /// The requests that this connection sends in turn; with many partitions each connection has its own share.
    fn frames(&self, connection: usize) -> Vec<Vec<u8>> {
        let groups: Vec<_> = self.partitions.chunks(self.batches_per_request).collect();
        let mine = groups
            .iter()
            .enumerate()
            .filter(|(index, _)| groups.len() < self.connections || index % self.connections == connection);
        mine.map(|(_, partitions)| wire::produce(&self.topic, partitions, &self.batch))
            .collect()
    }

    fn flat_out(
        &self,
        mut stream: TcpStream,
        frames: &[Vec<u8>],
        duration: Duration,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut in_flight = VecDeque::with_capacity(REQUESTS_IN_FLIGHT);
        let mut frames = frames.iter().cycle();
        let mut answer = Vec::new();
        let end = Instant::now() + duration;
        loop {
            while in_flight.len() < REQUESTS_IN_FLIGHT && Instant::now() < end {
                let frame = frames.next().expect("every connection has a request");
                in_flight.push_back(Instant::now());
                stream
                    .write_all(frame)
                    .context("the server does not take a request")?;
            }
            let Some(sent) = in_flight.pop_front() else {
                return Ok(outcome);
            };
            self.take_answer(&mut stream, &mut answer, sent, &mut outcome)?;
        }
    }

    fn paced(
        &self,
        stream: TcpStream,
        frames: &[Vec<u8>],
        interval: Duration,
        duration: Duration,
    ) -> anyhow::Result<Outcome> {
        let mut reading = stream.try_clone()?;
        let mut writing = stream;
        let (due_sender, due_receiver) = mpsc::channel();
        thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let (mut outcome, mut answer) = (Outcome::default(), Vec::new());
                for due in due_receiver {
                    self.take_answer(&mut reading, &mut answer, due, &mut outcome)?;
                }
                Ok(outcome)
            });
            let start = Instant::now();
            let mut due = start;
            for frame in frames.iter().cycle() {
                if due - start >= duration {
                    break;
                }
                // The time is counted from when the request was due: a server that stalls does not hide the wait.
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if due_sender.send(due).is_err() {
                    break;
                }
                writing
                    .write_all(frame)
                    .context("the server does not take a request")?;
                due += interval;
            }
            drop(due_sender);
            reader.join().expect("the reading thread panicked")
        })
    }

    fn take_answer(
        &self,
        stream: &mut TcpStream,
        answer: &mut Vec<u8>,
        since: Instant,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        wire::read_frame(stream, answer)?;
        wire::check_produced(answer)?;
        outcome.latencies_us.push(since.elapsed().as_micros() as u64);
        outcome.bytes += (self.batch.len() * self.batches_per_request) as u64;
        outcome.records += (self.records_per_batch * self.batches_per_request) as u64;
        Ok(())
    }
}

/// A batch of `records` records of `value_bytes` each, words like those of log lines (lz4 halves them); and its bytes.
pub fn batch(records: usize, value_bytes: usize, compression: Compression) -> anyhow::Result<Vec<u8>> {
    let mut builder = BatchBuilder::new().compression(compression);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_millis() as i64;
    for index in 0..records {
        let mut value = Vec::with_capacity(value_bytes + 16);
        while value.len() < value_bytes {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = WORDS[(random >> 60) as usize];
            write!(value, "{word}={:x} ", random >> 44 & 0xffff)?;
        }
        value.truncate(value_bytes);
        builder.append(now_ms + index as i64 / 16, None, Some(&value), &[])?;
    }
    Ok(builder.finish()?.to_vec())
}

const REQUESTS_IN_FLIGHT: usize = 5;

const WORDS: [&str; 16] = [
    "level", "request", "duration", "status", "user", "path", "trace", "span", "region", "host", "service",
    "bytes", "method", "retry", "cache", "version",
];
