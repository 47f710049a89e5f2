//! A load with librdkafka's default settings: `librdkafka-load produce|consume ADDRESS TOPIC RECORD_BYTES SECONDS`.
//!
//! Prints `{"bytes": .., "records": .., "seconds": ..}` for what was acknowledged or received.
//! `librdkafka-load trickle ADDRESS TOPIC PARTITIONS` sends without end and prints when each record of partition 0 was acknowledged.
//! `librdkafka-load transactions ADDRESS TOPIC PARTITIONS RECORDS RECORD_BYTES PRODUCERS SECONDS` commits transactions of so many records.
//! `librdkafka-load round-trip ADDRESS TOPIC RECORDS` is a test: it fails if a record does not come back as it was sent.

mod round_trip;
mod transactions;
mod trickle;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, address, topic, records] = &arguments[..]
        && mode == "round-trip"
    {
        return round_trip::run(address, topic, records.parse()?);
    }
    if let [mode, address, topic, partitions] = &arguments[..]
        && mode == "trickle"
    {
        return trickle::run(address, topic, partitions.parse()?);
    }
    if let [
        mode,
        address,
        topic,
        partitions,
        records,
        record_bytes,
        producers,
        seconds,
    ] = &arguments[..]
        && mode == "transactions"
    {
        let shape = transactions::Shape {
            address,
            topic,
            partitions: partitions.parse()?,
            records: records.parse()?,
            record_bytes: record_bytes.parse()?,
        };
        let duration = Duration::from_secs(seconds.parse()?);
        return transactions::run(shape, producers.parse()?, duration);
    }
    let [mode, address, topic, record_bytes, seconds] = &arguments[..] else {
        anyhow::bail!(
            "usage: librdkafka-load produce|consume ADDRESS TOPIC RECORD_BYTES SECONDS, trickle ADDRESS TOPIC PARTITIONS, transactions ADDRESS TOPIC PARTITIONS RECORDS RECORD_BYTES PRODUCERS SECONDS, or round-trip ADDRESS TOPIC RECORDS"
        );
    };
    let duration = Duration::from_secs(seconds.parse()?);
    match mode.as_str() {
        "produce" => produce(address, topic, record_bytes.parse()?, duration),
        "consume" => consume(address, topic, duration),
        _ => anyhow::bail!("unknown mode {mode}"),
    }
}

#[derive(Default)]
struct Counted {
    bytes: AtomicU64,
    records: AtomicU64,
    failed: AtomicU64,
}

impl Counted {
    /// Records that were acknowledged, and records that failed.
    fn counts(&self) -> (u64, u64) {
        (
            self.records.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }
}

impl ClientContext for Counted {}

impl ProducerContext for Counted {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                self.bytes
                    .fetch_add(message.payload_len() as u64, Ordering::Relaxed);
                self.records.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn produce(address: &str, topic: &str, record_bytes: usize, duration: Duration) -> anyhow::Result<()> {
    let producer: BaseProducer<Counted> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .create_with_context(Counted::default())?;
    let payload: Vec<u8> = (0..record_bytes).map(|at| b'a' + (at * 7 % 26) as u8).collect();
    let start = Instant::now();
    while start.elapsed() < duration {
        for _ in 0..100 {
            match producer.send(BaseRecord::<(), [u8]>::to(topic).payload(&payload)) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60))?;
    let counted = producer.context();
    ensure!(
        counted.failed.load(Ordering::Relaxed) == 0,
        "some records were not acknowledged"
    );
    tell(
        counted.bytes.load(Ordering::Relaxed),
        counted.records.load(Ordering::Relaxed),
        start.elapsed(),
    );
    Ok(())
}

fn consume(address: &str, topic: &str, duration: Duration) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "librdkafka-load")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30))?;
    let partitions = metadata
        .topics()
        .first()
        .context("the topic is there")?
        .partitions()
        .len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut bytes, mut records) = (0, 0);
    let start = Instant::now();
    let mut last = start;
    // It ends early when nothing more comes.
    while start.elapsed() < duration && last.elapsed() < Duration::from_secs(1) {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message?.payload_len() as u64;
            records += 1;
            last = Instant::now();
        }
    }
    tell(bytes, records, last - start);
    Ok(())
}

fn tell(bytes: u64, records: u64, time: Duration) {
    println!(
        "{{\"bytes\": {bytes}, \"records\": {records}, \"seconds\": {}}}",
        time.as_secs_f64()
    );
}
