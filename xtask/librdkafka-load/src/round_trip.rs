//! Records there and back with default settings: what is not set here is as librdkafka comes.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::Counted;

/// Produces records with keys and headers, reads them as a member of a group, then the same with further records and
/// the next member, and checks that each came once and as it was sent.
///
/// # Errors
/// A record is lost, repeated or changed, or does not come in time.
pub fn run(address: &str, topic: &str, records: usize) -> anyhow::Result<()> {
    let mut seen = HashMap::new();
    for numbers in [0..records / 2, records / 2..records] {
        let until = numbers.end;
        produce(address, topic, numbers)?;
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .set("group.id", topic)
            .set("auto.offset.reset", "earliest")
            .create()?;
        consumer.subscribe(&[topic])?;
        // Dropped, it commits and leaves the group: what it has read does not come to the next one.
        read(&consumer, &mut seen, until)?;
    }
    ensure!(
        (0..records).all(|number| seen.contains_key(&value(number))),
        "a record did not come back"
    );
    Ok(())
}

fn produce(address: &str, topic: &str, numbers: Range<usize>) -> anyhow::Result<()> {
    let records = numbers.len() as u64;
    let producer: BaseProducer<Counted> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .create_with_context(Counted::default())?;
    for number in numbers {
        let (key, value) = (format!("key {}", number % 10), value(number));
        let record = BaseRecord::to(topic)
            .key(&key)
            .payload(&value)
            .headers(headers(number));
        producer
            .send::<String, String>(record)
            .map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(30))?;
    let (acknowledged, failed) = producer.context().counts();
    ensure!(
        (acknowledged, failed) == (records, 0),
        "{acknowledged} of {records} records were acknowledged, {failed} failed"
    );
    Ok(())
}

/// Reads until so many records have been seen, by all members so far.
fn read(consumer: &BaseConsumer, seen: &mut HashMap<String, (i32, i64)>, until: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.len() < until {
        ensure!(
            Instant::now() < deadline,
            "{} of {until} records came in time",
            seen.len()
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        let text = message.payload_view::<str>().context("a value")??.to_owned();
        let number: usize = text.split(' ').nth(1).context("a number in the value")?.parse()?;
        ensure!(
            message.key() == Some(format!("key {}", number % 10).as_bytes()),
            "the key of {text:?} is another"
        );
        let sent = headers(number);
        let came = message.headers().context("headers")?;
        ensure!(came.iter().eq(sent.iter()), "the headers of {text:?} are others");
        let place = (message.partition(), message.offset());
        if let Some(before) = seen.insert(text, place) {
            bail!("a record came twice, at {before:?} and at {place:?}");
        }
    }
    Ok(())
}

fn value(number: usize) -> String {
    format!("value {number} {}", "x".repeat(number % 100))
}

/// Two of the same key, for headers may repeat.
fn headers(number: usize) -> OwnedHeaders {
    let number = number.to_string();
    let header = |value| Header {
        key: "number",
        value: Some(value),
    };
    OwnedHeaders::new()
        .insert(header(number.as_str()))
        .insert(header("again"))
}
