//! Transforms at work in a whole broker, without the network.

mod balance;
mod bounds;
mod counted;
mod ends;
mod errors;
mod releases;
mod sinks;
mod stories;

use std::time::Duration;

use bytes::Bytes;
use millstream_core::cluster::{
    Command, Guarantee, Outcome, PluginRef, Start, TransformChange, TransformSink, TransformSpec, Trial,
};
use millstream_core::config::OnError;
use millstream_core::ids::TopicName;
use millstream_kafka::api::fetch::FetchRequest;
use millstream_kafka::api::fetch::{FetchPartition, FetchTopic};
use millstream_kafka::records::{self, BatchBuilder, Scratch};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use super::compute::{self, Input};
use super::report::{PartitionReport, reports};
use super::tally::State;
use crate::context::now_ms;
use crate::handlers::fetch;
use crate::plugins::tests::{World, guests};

/// A broker on which `in` has two partitions, `a` and `b` are sinks, and `router` is pushed.
async fn world() -> World {
    let world = World::start().await;
    for (topic, partitions) in [("in", 2), ("a", 2), ("b", 1), ("letters", 1)] {
        world.create(topic, partitions, &[]).await.unwrap();
    }
    world.push("router", guests::router()).await.unwrap();
    world
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn spec(name: &str) -> TransformSpec {
    let sink = |name: &str| TransformSink {
        name: name.to_owned(),
        topic: topic(name),
    };
    TransformSpec {
        name: name.to_owned(),
        sources: vec![topic("in")],
        sinks: vec![sink("a"), sink("b")],
        workers: 2,
        guarantee: Guarantee::ExactlyOnce,
        commit_interval_ms: 20,
        commit_bytes: 1 << 20,
        start: Start::Earliest,
        on_error: OnError::Fail,
        limits: Default::default(),
    }
}

async fn deploy(world: &World, spec: TransformSpec, plugin: &str) -> Result<Outcome, String> {
    let command = Command::DeployTransform {
        spec,
        plugin: PluginRef::parse(plugin).unwrap(),
        config: String::new(),
        id: Uuid::new_v4(),
        at_ms: now_ms(),
    };
    let applied = world.context().controller.apply(command).await;
    applied.map_err(|refused| refused.message)
}

async fn change(world: &World, name: &str, change: TransformChange) -> Result<Outcome, String> {
    let command = Command::ChangeTransform {
        name: name.to_owned(),
        change,
        at_ms: now_ms(),
    };
    let applied = world.context().controller.apply(command).await;
    applied.map_err(|refused| refused.message)
}

async fn look(world: &World, name: &str) -> Vec<PartitionReport> {
    let image = world.context().controller.image();
    reports(world.context(), image.transform(name).unwrap()).await
}

/// Waits until something holds.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

/// Waits until all that is in the source is done.
async fn until_done(world: &World, name: &str) {
    until("the transform has no lag", async || {
        look(world, name)
            .await
            .iter()
            .all(|report| report.state == State::Running && report.lag == 0)
    })
    .await;
}

/// Values of a partition as readers of committed records get them.
async fn committed(world: &World, topic: &str, partition: i32) -> Vec<String> {
    let asked = FetchRequest {
        max_bytes: 1 << 24,
        isolation_level: 1,
        topics: vec![FetchTopic {
            topic: Text::from(topic),
            partitions: vec![FetchPartition {
                partition,
                partition_max_bytes: 1 << 24,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = fetch::whole(world.context(), 12, asked).await;
    let data = answer
        .responses
        .into_iter()
        .flat_map(|t| t.partitions)
        .next()
        .unwrap();
    assert_eq!(data.error_code, 0);
    let aborted = data.aborted_transactions.unwrap_or_default();
    let aborted = aborted.iter().map(|a| (a.producer_id, a.first_offset)).collect();
    let batches = data.records.and_then(|r| r.bytes().cloned()).unwrap_or_default();
    let input = Input { batches, aborted };
    let mut values = Vec::new();
    let mut scratch = Scratch::new();
    for batch in compute::wanted(&input) {
        let batch = batch.unwrap();
        for record in batch.records(&mut scratch, 1 << 24).unwrap() {
            let value = record.unwrap().value.unwrap_or_default();
            values.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    values
}

/// Waits until just these values can be read of a partition: markers are written after the answer to a commit.
async fn comes_out(world: &World, topic: &str, partition: i32, expected: &[impl AsRef<str>]) {
    let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
    let mut found = Vec::new();
    for _ in 0..200 {
        found = committed(world, topic, partition).await;
        if found.len() >= expected.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(found, expected);
}

/// A batch of records without keys.
fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder
            .append(now_ms(), None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

/// Headers of the first record of a partition.
fn headers(world: &World, topic: &str) -> Vec<(String, String)> {
    let stored = world.stored(topic, 0);
    let batch = records::batches(&stored).next().unwrap().unwrap();
    let mut scratch = Scratch::new();
    let mut all = batch.records(&mut scratch, 1 << 20).unwrap();
    let first = all.next().unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = first.headers.iter();
    headers
        .map(|header| (text(header.key), header.value.map(text).unwrap_or_default()))
        .collect()
}
