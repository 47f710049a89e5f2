//! Transactions behind a partitioner: their markers go wherever records may have gone.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::transaction::{EndRequest, Producer, Version};

use super::*;
use crate::coordinators::transaction::{self, Touched};
use crate::ingest::InTransaction;
use crate::partitions::{Isolation, Part};
use crate::plugins::ingest::spread;

/// A producer of transactions, as clients are that name partitions before they write to them.
struct Writer<'a> {
    world: &'a World,
    producer: Producer,
    sequence: i32,
}

impl<'a> Writer<'a> {
    async fn new(world: &'a World) -> Self {
        let context = world.context();
        context.transactions.ensure_started(context).await.unwrap();
        loop {
            match context.transactions.init(context, ID, 60_000, None).await {
                Ok(producer) => {
                    return Self {
                        world,
                        producer,
                        sequence: 0,
                    };
                }
                Err(ErrorCode::CoordinatorLoadInProgress | ErrorCode::ConcurrentTransactions) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(code) => panic!("no producer: {code:?}"),
            }
        }
    }

    /// Names partitions of a topic.
    async fn add(&self, topic: &str, partitions: &[i32]) -> Result<(), ErrorCode> {
        let touched = Touched::from([(Arc::from(topic), partitions.to_vec())]);
        let context = self.world.context();
        let added = context
            .transactions
            .add(context, ID, self.producer, &touched, Version::V1);
        added.await
    }

    fn batch(&mut self, values: &[&str]) -> Bytes {
        let builder = BatchBuilder::new().transactional(true);
        let Producer { id, epoch } = self.producer;
        let batch = filled(builder.producer(id, epoch, self.sequence), values);
        self.sequence += values.len() as i32;
        batch
    }

    /// What a Produce request does.
    async fn send(&self, topic: &str, partition: i32, batch: &Bytes) -> Result<Stored, Refusal> {
        let context = self.world.context();
        let topic = context.topics.find(topic, Uuid::nil()).unwrap();
        let entrance = crate::ingest::entrance(context, &topic, partition)?;
        let header = records::BatchHeader::parse(batch).unwrap();
        let part = match topic.partitioner() {
            Some(_) => {
                spread::join(context, &topic, &entrance, ID, &header, false).await?;
                InTransaction::Spread(Arc::from(ID))
            }
            None => {
                let guard = entrance.begin_verification(&header, false);
                let (name, producer) = (topic.name.as_str(), self.producer);
                transaction::take_part(context, ID, producer, name, &[partition], false)
                    .await
                    .map_err(crate::ingest::refuse_part)?;
                InTransaction::Here(Part(guard))
            }
        };
        crate::ingest::store(context, &topic, &entrance, batch, Safety::InSync, Some(part)).await
    }

    /// Ends the transaction; returns when all partitions know.
    async fn end(&self, is_commit: bool) {
        let context = self.world.context();
        let request = EndRequest {
            producer: self.producer,
            is_commit,
            version: Version::V1,
            fresh: None,
        };
        context.transactions.end(context, ID, request).await.unwrap();
        let shard = context.transactions.shard(ID).unwrap();
        let is_over = || {
            let known = shard.look(|transactions| transactions.get(ID).unwrap().state.is_over());
            known.unwrap()
        };
        while !is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl World {
    /// Partitions with a transaction that is open.
    fn open(&self, topic: &str) -> Vec<i32> {
        let topic = self.context().topics.find(topic, Uuid::nil()).unwrap();
        let open = topic.stored_partitions().filter(|p| p.open_transactions() > 0);
        open.map(|partition| partition.index.0).collect()
    }

    /// Values of a partition that readers of committed records see.
    fn committed(&self, topic: &str, partition: i32) -> Vec<String> {
        let found = self.context().topics.find(topic, Uuid::nil()).unwrap();
        let partition = found.partition(partition).unwrap();
        let read = partition
            .read_as(Isolation::Committed, Offset(0), 1 << 20, true)
            .unwrap();
        let Some(slice) = read.slice else {
            return Vec::new();
        };
        let aborted = partition.aborted_in(Offset(0), &slice).unwrap();
        let mut aborted: BTreeMap<i64, i64> = aborted
            .iter()
            .map(|a| (a.first_offset.0, a.producer_id))
            .collect();
        let (mut skipped, mut values) = (Vec::new(), Vec::new());
        for batch in records::batches(&slice.read_blocking().unwrap()) {
            let batch = batch.unwrap();
            let header = *batch.header();
            skipped.extend(aborted.remove(&header.base_offset));
            if header.attributes.is_control() {
                skipped.retain(|id| *id != header.producer_id);
            } else if !skipped.contains(&header.producer_id) {
                let mut scratch = Scratch::new();
                let records = batch.records(&mut scratch, 1 << 20).unwrap();
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                values.extend(records.map(|record| text(record.unwrap().value.unwrap())));
            }
        }
        values
    }
}

async fn with_partitioner() -> World {
    let world = World::start().await;
    world.push("p", guests::partitioner()).await.unwrap();
    world.create("t", 4, &SPREADS).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spread_is_committed_or_aborted_as_a_whole() {
    let world = with_partitioner().await;
    let mut writer = Writer::new(&world).await;
    for (round, is_commit) in [true, false, true, false].into_iter().enumerate() {
        writer.add("t", &[2, 3]).await.unwrap();
        for entrance in [2, 3] {
            let values = [format!("0{round}{entrance}"), format!("1{round}{entrance}")];
            let batch = writer.batch(&[&values[0], &values[1]]);
            writer.send("t", entrance, &batch).await.unwrap();
            writer.send("t", entrance, &batch).await.expect("sent again");
            assert_eq!(world.open("t"), [0, 1]);
            writer.sequence = 2 * round as i32;
        }
        writer.sequence = 2 * (round as i32 + 1);
        let before = world.committed("t", 0).len();
        writer.end(is_commit).await;
        assert_eq!(world.open("t"), [0; 0]);
        let kept = if is_commit { before + 2 } else { before };
        assert_eq!(world.committed("t", 0).len(), kept);
    }
    assert_eq!(world.committed("t", 0), ["002", "003", "022", "023"]);
    assert_eq!(world.committed("t", 1), ["102", "103", "122", "123"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_begins_nothing() {
    let world = with_partitioner().await;
    let mut writer = Writer::new(&world).await;
    writer.add("t", &[2]).await.unwrap();
    let (first, late) = (writer.batch(&["0a"]), writer.batch(&["1b", "0c"]));
    writer.send("t", 2, &first).await.unwrap();
    writer.end(false).await;
    let refused = writer.send("t", 2, &late).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TransactionAbortable);
    assert_eq!(world.open("t"), [0; 0]);
    // Nor does what is of another's transaction.
    let zombie = Writer { ..writer };
    let mut writer = Writer::new(&world).await;
    writer.add("t", &[2]).await.unwrap();
    let refused = zombie.send("t", 2, &late).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidProducerEpoch);
    assert_eq!(world.open("t"), [0; 0]);
    let batch = writer.batch(&["1d"]);
    writer.send("t", 2, &batch).await.unwrap();
    writer.end(true).await;
    assert_eq!(
        (world.committed("t", 0).len(), world.committed("t", 1).len()),
        (0, 1)
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioner_that_comes_or_goes_meanwhile_leaves_nothing_open() {
    let world = with_partitioner().await;
    let mut writer = Writer::new(&world).await;
    writer.add("t", &[2]).await.unwrap();
    let (spread, plain) = (writer.batch(&["0a", "1b"]), writer.batch(&["1c"]));
    writer.send("t", 2, &spread).await.unwrap();
    world.configure("t", &[]).await.unwrap();
    writer.send("t", 2, &plain).await.unwrap();
    assert_eq!(world.open("t"), [0, 1, 2]);
    writer.end(true).await;
    assert_eq!(world.open("t"), [0; 0]);
    let seen = [0, 1, 2].map(|index| world.committed("t", index));
    assert_eq!(seen, [["0a"], ["1b"], ["1c"]]);
    // It comes while the transaction has only one of the topic's partitions.
    let mut writer = Writer::new(&world).await;
    writer.add("t", &[2]).await.unwrap();
    world.configure("t", &SPREADS).await.unwrap();
    let batch = writer.batch(&["2d", "0e"]);
    let refused = writer.send("t", 2, &batch).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TransactionAbortable);
    assert_eq!(world.open("t"), [0; 0]);
    writer.end(false).await;
    let mut writer = Writer::new(&world).await;
    writer.add("t", &[2]).await.unwrap();
    let batch = writer.batch(&["2d", "0e"]);
    writer.send("t", 2, &batch).await.unwrap();
    writer.end(true).await;
    assert_eq!(world.committed("t", 0), ["0a", "0e"]);
    world.end().await;
}

/// The writer's transactional id.
const ID: &str = "writer";
/// Has the plugin choose partitions.
const SPREADS: [(&str, &str); 1] = [("millstream.partitioner", "p")];
