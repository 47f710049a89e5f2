//! What readers get: who is to ask whom, and what readers of committed records see of transactions.

use std::collections::BTreeMap;

use millstream_core::cluster::{self, Command};
use millstream_core::ids::TopicName;
use millstream_kafka::api::describe_producers::{self, DescribeProducersRequest};
use millstream_kafka::api::fetch::{FetchPartition, FetchTopic};
use millstream_kafka::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_kafka::records::BatchBuilder;
use millstream_storage::EndMarker;
use uuid::Uuid;

use super::super::leaders::tests::{cluster_of, create};
use super::super::{describe_producers as describing, list_offsets};
use super::*;
use crate::partitions::Receipt;
use crate::{Broker, Settings};

/// A broker with a topic of one partition, and a view that shows it as it is.
struct World {
    broker: Broker,
    info: ConnectionInfo,
    _directory: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::start(Settings::of_test(directory.path())).await.unwrap();
        let source = ("millstream.view.source".to_owned(), TOPIC.to_owned());
        for (name, partitions, configs) in [(TOPIC, 1, None), (VIEW, 0, Some(source))] {
            let command = Command::CreateTopic {
                name: TopicName::new(name).unwrap(),
                id: TopicId(Uuid::new_v4()),
                partitions: vec![vec![BrokerId(broker.context().settings.node_id)]; partitions],
                configs: BTreeMap::from_iter(configs),
            };
            broker.context().controller.apply(command).await.unwrap();
        }
        Self {
            broker,
            info: ConnectionInfo {
                id: 1,
                peer: ([127, 0, 0, 1], 5000).into(),
                client_id: Text::default(),
            },
            _directory: directory,
        }
    }

    async fn end(self) {
        self.broker.shutdown().await;
    }

    fn partition(&self) -> Arc<Partition> {
        let topic = self.broker.context().topics.find(TOPIC, Uuid::nil()).unwrap();
        topic.partition(0).unwrap().clone()
    }

    /// Appends a batch of two records; with a producer it is part of a transaction of that.
    async fn append(&self, producer: Option<(i64, i32)>, timestamp_ms: i64) {
        let mut batch = BatchBuilder::new();
        if let Some((id, sequence)) = producer {
            batch = batch.producer(id, 0, sequence).transactional(true);
        }
        for _ in 0..2 {
            batch.append(timestamp_ms, None, Some(b"v"), &[]).unwrap();
        }
        safe(self.partition().append(&batch.finish().unwrap(), 0).unwrap()).await;
    }

    async fn decide(&self, producer_id: i64, is_commit: bool) {
        let marker = EndMarker {
            producer_id,
            producer_epoch: 0,
            is_commit,
            coordinator_epoch: 4,
            bumps_epoch: false,
        };
        safe(self.partition().append_marker(marker, 0).unwrap()).await;
    }

    async fn fetch(&self, topic: &str, offset: i64, isolation_level: i8, max_wait_ms: i32) -> Seen {
        let partition = FetchPartition {
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: Text::from(topic),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            isolation_level,
            topics: vec![topic],
            ..Default::default()
        };
        let (answer, files) = handle(self.broker.context(), &self.info, 12, request).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, 0);
        let records = match data.records.as_ref().unwrap() {
            Payload::External { index, .. } => files[*index as usize].read().await.unwrap().into(),
            Payload::Bytes(bytes) => bytes.clone(),
        };
        let batches = millstream_kafka::records::batches(&records);
        let last = batches.last().map(|batch| batch.unwrap().header().next_offset());
        let aborted = data.aborted_transactions.as_ref();
        Seen {
            until: last.unwrap_or(offset),
            high: data.high_watermark,
            stable: data.last_stable_offset,
            aborted: aborted.map(|all| all.iter().map(|a| (a.producer_id, a.first_offset)).collect()),
        }
    }

    async fn offset_of(&self, timestamp: i64, isolation_level: i8) -> i64 {
        let partition = ListOffsetsPartition {
            timestamp,
            ..Default::default()
        };
        let topic = ListOffsetsTopic {
            name: Text::from(TOPIC),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            isolation_level,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = list_offsets::handle(self.broker.context(), &self.info, 7, request).await;
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.offset
    }

    async fn describe(&self, topic: &str, indexes: &[i32]) -> Vec<describe_producers::PartitionResponse> {
        let topic = describe_producers::TopicRequest {
            name: Text::from(topic),
            partition_indexes: indexes.to_vec(),
            ..Default::default()
        };
        let request = DescribeProducersRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let mut answer = describing::handle(self.broker.context(), &self.info, 0, request).await;
        answer.topics.remove(0).partitions
    }
}

/// What a fetch answered: up to where there are records, both offsets, what was aborted.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    until: i64,
    high: i64,
    stable: i64,
    aborted: Option<Vec<(i64, i64)>>,
}

async fn safe(receipt: Receipt) {
    if let Some(durable) = receipt.durable {
        durable.await.unwrap().unwrap();
    }
}

#[test]
fn a_consumer_is_sent_to_the_in_sync_replica_in_its_rack() {
    let mut image = cluster_of(4);
    let topic = TopicId(create(&mut image, "a", &[1, 2, 3], None));
    let view = TopicId(create(&mut image, "v", &[], Some("a")));
    let leader = BrokerId(1);
    let near = |image: &Image, rack, topic| near(image, leader, rack, topic, 0).map(|id| id.0);
    assert_eq!(near(&image, "rack2", topic), Some(2));
    assert_eq!(
        near(&image, "rack3", view),
        Some(3),
        "a view is read where its source is"
    );
    assert_eq!(near(&image, "rack1", topic), None, "the leader is there");
    assert_eq!(near(&image, "rack4", topic), None, "no replica is there");
    let id = BrokerId(2);
    let epoch = image.brokers()[&id].epoch;
    cluster::apply(&mut image, &Command::FenceBroker { id, epoch }).unwrap();
    assert_eq!(near(&image, "rack2", topic), None, "it does not serve");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_committed_records_get_what_is_decided_and_what_of_it_was_aborted() {
    let world = World::start().await;
    world.append(None, 1000).await;
    world.append(Some((7, 0)), 2000).await;
    world.append(None, 3000).await;
    let seen = |until, high, stable, aborted: Option<&[(i64, i64)]>| Seen {
        until,
        high,
        stable,
        aborted: aborted.map(<[_]>::to_vec),
    };
    for topic in [TOPIC, VIEW] {
        assert_eq!(world.fetch(topic, 0, 0, 0).await, seen(6, 6, 2, None));
        assert_eq!(world.fetch(topic, 0, 1, 0).await, seen(2, 6, 2, Some(&[])));
        assert_eq!(world.fetch(topic, 2, 1, 0).await, seen(2, 6, 2, Some(&[])));
        assert_eq!(world.fetch(topic, 5, 1, 0).await, seen(5, 6, 2, Some(&[])));
    }
    world.decide(7, false).await;
    world.append(None, 4000).await;
    for topic in [TOPIC, VIEW] {
        assert_eq!(world.fetch(topic, 0, 0, 0).await, seen(9, 9, 9, None));
        assert_eq!(world.fetch(topic, 0, 1, 0).await, seen(9, 9, 9, Some(&[(7, 2)])));
        assert_eq!(world.fetch(topic, 5, 1, 0).await, seen(9, 9, 9, Some(&[(7, 2)])));
        assert_eq!(world.fetch(topic, 7, 1, 0).await, seen(9, 9, 9, Some(&[])));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_for_a_decision_is_answered_with_it() {
    let world = World::start().await;
    world.append(Some((7, 0)), 0).await;
    let deciding = async {
        // What others write moves the high watermark, and nothing for who waits for a decision.
        world.append(None, 0).await;
        world.append(None, 0).await;
        world.decide(7, true).await;
    };
    let (seen, ()) = tokio::join!(world.fetch(TOPIC, 0, 1, WAIT_MS_MAX), deciding);
    assert_eq!((seen.until, seen.stable), (7, 7));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_listed_for_readers_of_committed_records_are_decided() {
    let world = World::start().await;
    world.append(None, 1000).await;
    world.append(Some((7, 0)), 2000).await;
    let (latest, of_max) = (-1, -3);
    for (timestamp, all, decided) in [(latest, 4, 2), (500, 0, 0), (1500, 2, -1), (of_max, 2, -1)] {
        assert_eq!(world.offset_of(timestamp, 0).await, all, "{timestamp}");
        assert_eq!(world.offset_of(timestamp, 1).await, decided, "{timestamp}");
    }
    world.decide(7, true).await;
    assert_eq!(world.offset_of(latest, 1).await, 5);
    assert_eq!(world.offset_of(1500, 1).await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_described_with_their_transactions() {
    let world = World::start().await;
    world.append(Some((7, 0)), 0).await;
    world.append(Some((8, 0)), 0).await;
    world.append(Some((8, 2)), 0).await;
    world.decide(7, true).await;
    let described = world.describe(TOPIC, &[0, 1]).await;
    let producers = described[0].active_producers.iter();
    let known: Vec<_> = producers
        .map(|p| {
            (
                p.producer_id,
                p.last_sequence,
                p.coordinator_epoch,
                p.current_txn_start_offset,
            )
        })
        .collect();
    assert_eq!(known, [(7, 1, 4, -1), (8, 3, -1, 2)]);
    let missing = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!((described[0].error_code, described[1].error_code), (0, missing));
    assert_eq!(world.describe("nothing", &[3]).await[0].error_code, missing);
    world.end().await;
}

const TOPIC: &str = "a";
const VIEW: &str = "v";
