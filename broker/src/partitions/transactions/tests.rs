//! Stories of one partition and the transactions in it.

use std::pin::pin;

use bytes::Bytes;
use millstream_core::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicName};
use millstream_core::replica::Term;
use millstream_kafka::records::BatchBuilder;
use millstream_storage::LogConfig;
use tokio::sync::Notify;
use uuid::Uuid;

use super::super::{Description, Store};
use super::*;
use crate::metrics::Metrics;

/// A partition that this broker leads, all alone.
struct World {
    partition: Arc<Partition>,
    _store: Store,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), BrokerId(1), Metrics::new()).unwrap();
        let description = Description {
            topic: TopicName::new("a").unwrap(),
            topic_id: TopicId(Uuid::from_u128(1)),
            index: PartitionIndex(0),
            log: LogConfig::default(),
            waits_for_disk: true,
        };
        let partition = store.open_all(&[description]).pop().unwrap().unwrap();
        partition.become_leader(term(0), 0);
        Self {
            partition,
            _store: store,
            _directory: directory,
        }
    }

    async fn append(&self, batch: &[u8]) {
        safe(self.partition.append(batch, 0).unwrap()).await;
    }

    async fn end(&self, producer_id: i64, is_commit: bool) {
        let marker = marker(producer_id, 0, is_commit);
        safe(self.partition.append_marker(marker, 0).unwrap()).await;
    }

    /// High watermark and last stable offset.
    fn watermarks(&self) -> (i64, i64) {
        let Watermarks {
            high, last_stable, ..
        } = self.partition.watermarks();
        (high.0, last_stable.0)
    }

    fn begin(&self, batch: &[u8]) -> Option<Guard> {
        self.partition.begin_verification(&header(batch), false)
    }

    fn append_verified(&self, batch: &[u8], guard: Option<Guard>) -> Result<Receipt, AppendError> {
        self.partition.append_verified(batch, 0, guard)
    }

    /// The aborted transactions among all that is stable: producer and first offset.
    fn aborted(&self, from: i64) -> Vec<(i64, i64)> {
        let from = Offset(from);
        let read = self.partition.read_as(Isolation::Committed, from, 1 << 30, true);
        let outcome = read.unwrap();
        assert!(outcome.may_hold_aborted);
        let found = self.partition.aborted_in(from, &outcome.slice.unwrap()).unwrap();
        found.iter().map(|a| (a.producer_id, a.first_offset.0)).collect()
    }
}

fn term(epoch: i32) -> Term {
    Term {
        epoch: LeaderEpoch(epoch),
        partition_epoch: epoch,
        replicas: vec![BrokerId(1)],
        isr: vec![BrokerId(1)],
        min_insync: 1,
    }
}

fn marker(producer_id: i64, producer_epoch: i16, is_commit: bool) -> EndMarker {
    EndMarker {
        producer_id,
        producer_epoch,
        is_commit,
        coordinator_epoch: 0,
        bumps_epoch: false,
    }
}

async fn safe(receipt: Receipt) {
    if let Some(durable) = receipt.durable {
        durable.await.unwrap().unwrap();
    }
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

/// A batch of two records, part of a transaction.
fn of(producer_id: i64, sequence: i32) -> Bytes {
    let builder = BatchBuilder::new().producer(producer_id, 0, sequence);
    filled(builder.transactional(true), b"v")
}

fn plain() -> Bytes {
    filled(BatchBuilder::new(), b"v")
}

fn filled(mut builder: BatchBuilder, value: &[u8]) -> Bytes {
    for _ in 0..2 {
        builder.append(1000, None, Some(value), &[]).unwrap();
    }
    builder.finish().unwrap()
}

fn is_unverified(outcome: Result<Receipt, AppendError>) -> bool {
    matches!(outcome, Err(AppendError::Unverified { .. }))
}

fn is_out_of_order(outcome: Result<Receipt, AppendError>) -> bool {
    let log = match outcome {
        Err(AppendError::Log(log)) => log,
        _ => return false,
    };
    matches!(log, LogError::OutOfOrderSequence { .. })
}

#[tokio::test]
async fn readers_of_committed_records_see_what_is_decided_and_learn_what_was_aborted() {
    let world = World::new();
    let read = |isolation, from| {
        let read = world.partition.read_as(isolation, Offset(from), 1 << 20, true);
        read.unwrap().slice
    };
    world.append(&plain()).await;
    world.append(&of(7, 0)).await;
    world.append(&of(8, 0)).await;
    assert_eq!(world.watermarks(), (6, 2));
    assert_eq!(world.partition.open_transactions(), 2);
    assert_eq!(world.partition.oldest_transaction_ms().unwrap(), Some(1000));
    assert!(read(Isolation::Committed, 2).is_none());
    assert_eq!(
        read(Isolation::Uncommitted, 2).unwrap().next_offset().unwrap(),
        Offset(6)
    );
    assert_eq!(
        read(Isolation::Committed, 0).unwrap().next_offset().unwrap(),
        Offset(2)
    );
    world.end(8, false).await;
    assert_eq!(world.watermarks(), (7, 2), "the older one is still open");
    world.end(7, true).await;
    assert_eq!(world.watermarks(), (8, 8));
    assert_eq!(world.aborted(0), [(8, 4)]);
    assert_eq!(world.partition.oldest_transaction_ms().unwrap(), None);
    let outcome = world
        .partition
        .read_as(Isolation::Committed, Offset(7), 1 << 20, true)
        .unwrap();
    assert!(
        !outcome.may_hold_aborted,
        "all markers of aborted ones lie before"
    );
    let states = world.partition.producers();
    let states: Vec<_> = states.iter().map(|s| (s.id, s.transaction_start)).collect();
    assert_eq!(states, [(7, None), (8, None)]);
}

#[tokio::test]
async fn the_aborted_transactions_of_an_answer_are_those_with_records_in_it() {
    let world = World::new();
    for producer in 0..4 {
        let builder = BatchBuilder::new().producer(producer, 0, 0).transactional(true);
        world.append(&filled(builder, &[0; 60_000])).await;
        world.end(producer, producer % 2 == 1).await;
    }
    assert_eq!(world.aborted(0), [(0, 0), (2, 6)]);
    assert_eq!(world.aborted(3), [(2, 6)]);
    let first = world.partition.read_as(Isolation::Committed, Offset(0), 1, true);
    let first = first.unwrap().slice.unwrap();
    assert_eq!(first.next_offset().unwrap(), Offset(2));
    let found = world.partition.aborted_in(Offset(0), &first).unwrap();
    assert_eq!(found.len(), 1);
    world.partition.delete_records_before(Offset(3)).unwrap();
    let forgotten = world.partition.aborted_in(Offset(0), &first).unwrap_err();
    assert!(
        forgotten.is_out_of_range(),
        "who read before must not take them for committed"
    );
}

#[tokio::test]
async fn a_reader_of_committed_records_is_woken_when_more_is_decided_and_not_before() {
    let world = World::new();
    world.append(&of(7, 0)).await;
    let (any, decided) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let is_woken = |notify: &Notify| {
        // Who waits for an append hears of it first; behind the lock the others have, too.
        world.watermarks();
        pin!(notify.notified()).enable()
    };
    world
        .partition
        .notify_when_readable_as(Isolation::Uncommitted, &any);
    world
        .partition
        .notify_when_readable_as(Isolation::Committed, &decided);
    world.append(&plain()).await;
    assert!(is_woken(&any) && !is_woken(&decided));
    world.end(7, true).await;
    assert!(is_woken(&decided));
    world
        .partition
        .notify_when_readable_as(Isolation::Committed, &decided);
    world.partition.become_follower(LeaderEpoch(1), BrokerId(2));
    assert!(is_woken(&decided), "there will be nothing more here");
}

#[tokio::test]
async fn only_a_leader_takes_markers_and_only_those_of_living_producers() {
    let world = World::new();
    world.append(&of(7, 0)).await;
    let append = |marker| world.partition.append_marker(marker, 0);
    safe(append(marker(7, 3, true)).unwrap()).await;
    let refused = append(marker(7, 2, true)).unwrap_err();
    assert!(matches!(
        refused,
        AppendError::Log(LogError::InvalidProducerEpoch { .. })
    ));
    world.partition.become_follower(LeaderEpoch(1), BrokerId(2));
    let refused = append(marker(7, 3, true)).unwrap_err();
    assert!(matches!(refused, AppendError::NotLeader));
    assert_eq!(world.watermarks(), (3, 3), "nothing was appended");
}

#[tokio::test]
async fn no_record_begins_a_transaction_that_its_coordinator_has_ended() {
    let world = World::new();
    let first = of(7, 0);
    assert!(is_unverified(world.append_verified(&first, None)));
    let guard = world.begin(&first);
    assert!(guard.is_some());
    world.end(7, false).await;
    assert!(is_unverified(world.append_verified(&first, guard)));
    let guard = world.begin(&first);
    safe(world.append_verified(&first, guard).unwrap()).await;
    assert!(world.begin(&of(7, 2)).is_none(), "there is nothing to ask");
    safe(world.append_verified(&of(7, 2), None).unwrap()).await;
    world.end(7, true).await;
    assert!(is_unverified(world.append_verified(&of(7, 4), None)));
    let again = world.append_verified(&of(7, 2), None).unwrap();
    assert!(again.appended.is_duplicate, "it begins nothing");
    safe(world.append_verified(&plain(), None).unwrap()).await;
    let guard = world.begin(&of(7, 4));
    world.partition.become_leader(term(1), 0);
    assert!(is_unverified(world.append_verified(&of(7, 4), guard)));
    assert_eq!(world.partition.open_transactions(), 0);
}

#[tokio::test]
async fn a_guard_serves_batches_that_wait_together_and_of_those_the_first_goes_first() {
    let world = World::new();
    let (first, second) = (of(7, 0), of(7, 2));
    let guards = [world.begin(&first), world.begin(&second)];
    let [guard, guard_of_second] = guards;
    let late = world.append_verified(&second, guard_of_second);
    assert!(is_out_of_order(late), "the one before it may come yet");
    safe(world.append_verified(&first, guard).unwrap()).await;
    safe(world.append_verified(&second, None).unwrap()).await;
    // A producer that takes a new epoch for every transaction counts from 0, and the log knows nothing of this one.
    let unknown = of(8, 5);
    let guard = world.partition.begin_verification(&header(&unknown), true);
    assert!(is_out_of_order(world.append_verified(&unknown, guard)));
    let guard = world.begin(&of(9, 5));
    safe(world.append_verified(&of(9, 5), guard).unwrap()).await;
    assert!(world.partition.open_transaction(9, 0));
}

#[tokio::test]
async fn a_marker_also_ends_what_was_spread_of_its_producer_and_what_is_asked_about_that() {
    let world = World::new();
    let at = |entrance| ProducerId(7).at_entrance(PartitionIndex(entrance)).unwrap().0;
    let (open, asked, other) = (of(at(0), 8), of(at(1), 0), of(8, 0));
    let guard = world.begin(&open);
    safe(world.append_verified(&open, guard).unwrap()).await;
    let (guard, guard_of_other) = (world.begin(&asked), world.begin(&other));
    world.end(7, false).await;
    assert_eq!(
        world.watermarks(),
        (4, 4),
        "a marker for each of both, and nothing is open"
    );
    assert_eq!(world.aborted(0), [(at(0), 0)]);
    assert!(is_unverified(world.append_verified(&asked, guard)));
    safe(world.append_verified(&other, guard_of_other).unwrap()).await;
}

#[tokio::test]
async fn guards_that_are_never_used_do_not_pile_up() {
    let world = World::new();
    let (old, new) = (of(0, 0), of(VERIFICATIONS_MAX as i64, 0));
    let forgotten = world.begin(&old);
    for producer in 1..VERIFICATIONS_MAX as i64 {
        world.begin(&of(producer, 0));
    }
    let guard = world.begin(&new);
    let asked = world.partition.lock().verifications.by_producer.len();
    assert!(asked <= VERIFICATIONS_MAX / 2 + 2, "{asked} are remembered");
    assert!(is_unverified(world.append_verified(&old, forgotten)));
    safe(world.append_verified(&new, guard).unwrap()).await;
}
