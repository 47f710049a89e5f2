//! Transactions one after the other, from one or several producers, with librdkafka's default settings.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::bindings;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::Counted;

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    pub address: &'a str,
    pub topic: &'a str,
    /// Partitions that the records of a transaction go to in turn.
    pub partitions: i32,
    pub records: usize,
    pub record_bytes: usize,
}

/// Commits for `duration`, with so many producers at the same time, and prints
/// `{"commits": .., "seconds": .., "p50_ms": .., "p99_ms": ..}`: times from the first record of a transaction to the end of
/// its commit. What comes before the first transaction is not counted.
///
/// # Errors
/// A transaction fails, or a record of one that was committed was not acknowledged.
pub fn run(shape: Shape<'_>, producers: usize, duration: Duration) -> anyhow::Result<()> {
    let ready: Vec<_> = (0..producers)
        .map(|index| producer(shape, index))
        .collect::<anyhow::Result<_>>()?;
    let start = Instant::now();
    let mut times_us = std::thread::scope(|scope| {
        let threads: Vec<_> = ready
            .iter()
            .map(|producer| scope.spawn(move || commit(producer, shape, start, duration)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("a producer panicked"));
        joined.collect::<anyhow::Result<Vec<_>>>().map(|all| all.concat())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    times_us.sort_unstable();
    let last = times_us.len().checked_sub(1).context("nothing was committed")?;
    let percentile_ms = |share: f64| times_us[(last as f64 * share).round() as usize] as f64 / 1e3;
    println!(
        "{{\"commits\": {}, \"seconds\": {seconds}, \"p50_ms\": {}, \"p99_ms\": {}}}",
        times_us.len(),
        percentile_ms(0.5),
        percentile_ms(0.99)
    );
    Ok(())
}

fn producer(shape: Shape<'_>, index: usize) -> anyhow::Result<ThreadedProducer<Counted>> {
    let producer: ThreadedProducer<Counted> = ClientConfig::new()
        .set("bootstrap.servers", shape.address)
        .set("transactional.id", format!("{}-{index}", shape.topic))
        .create_with_context(Counted::default())?;
    producer
        .init_transactions(PATIENCE)
        .context("no transactional id")?;
    Ok(producer)
}

/// Gives the microseconds of each transaction.
fn commit(
    producer: &ThreadedProducer<Counted>,
    shape: Shape<'_>,
    start: Instant,
    duration: Duration,
) -> anyhow::Result<Vec<u64>> {
    let payload: Vec<u8> = (0..shape.record_bytes)
        .map(|at| b'a' + (at * 7 % 26) as u8)
        .collect();
    let mut times_us = Vec::new();
    while start.elapsed() < duration {
        let begin = Instant::now();
        producer.begin_transaction()?;
        for number in 0..shape.records {
            let partition = number as i32 % shape.partitions;
            send(
                producer,
                BaseRecord::to(shape.topic).partition(partition).payload(&payload),
            )?;
        }
        end(producer)?;
        times_us.push(begin.elapsed().as_micros() as u64);
    }
    let sent = (times_us.len() * shape.records) as u64;
    // What tells of the last ones may still be on its way from librdkafka to here.
    while producer.in_flight_count() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (acknowledged, failed) = producer.context().counts();
    ensure!(
        (acknowledged, failed) == (sent, 0),
        "of {sent} records {acknowledged} were acknowledged, {failed} failed"
    );
    Ok(times_us)
}

/// Commits by librdkafka's own function. That of the crate around it first sends what is left in a way that takes a tenth of a
/// second whatever the broker does.
fn end(producer: &ThreadedProducer<Counted>) -> anyhow::Result<()> {
    let client = producer.client().native_ptr();
    // SAFETY: the client lives as long as the producer does.
    let error = unsafe { bindings::rd_kafka_commit_transaction(client, PATIENCE.as_millis() as i32) };
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error has a text, which lives as long as the error; it is this function's to destroy.
    let text = unsafe {
        let text = CStr::from_ptr(bindings::rd_kafka_error_string(error))
            .to_string_lossy()
            .into_owned();
        bindings::rd_kafka_error_destroy(error);
        text
    };
    bail!("a commit failed: {text}")
}

fn send<'a>(
    producer: &ThreadedProducer<Counted>,
    mut record: BaseRecord<'a, (), [u8]>,
) -> anyhow::Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                std::thread::sleep(Duration::from_millis(1));
                record = again;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
