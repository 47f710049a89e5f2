//! The power fails in every operation on the disk in turn, or the disk is full from every write on: what was promised is
//! there afterwards, and the store opens.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::Command;
use millstream_core::ids::BrokerId;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};

use super::cut_disk::CutDisk;
use crate::config::QuorumConfig;
use crate::store::log::LogStore;
use crate::store::machine::StateMachine;
use crate::store::room::Room;
use crate::store::{self};
use crate::types::{Entry, LogId, StorageError, Vote};

#[derive(Debug, Clone)]
enum Step {
    Vote(u64),
    Append {
        term: u64,
        first: u64,
        count: u64,
    },
    Truncate(LogId),
    Commit(LogId),
    /// Applies up to an entry and takes a snapshot.
    Snapshot(LogId),
    Purge(LogId),
}

/// What a node has promised.
#[derive(Debug, Clone, Default, PartialEq)]
struct Promises {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
    snapshot: Option<LogId>,
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(log_id: LogId) -> Entry {
    let broker = BrokerId(log_id.leader_id.term as i32);
    let command = Command::AllocateProducerIds { broker, count: 3 };
    Entry {
        log_id,
        payload: EntryPayload::Normal(Arc::new(command)),
    }
}

fn entries(term: u64, first: u64, count: u64) -> Vec<Entry> {
    (first..first + count)
        .map(|index| entry(id(term, index)))
        .collect()
}

impl Promises {
    fn keep(&mut self, step: &Step) {
        match *step {
            Step::Vote(term) => self.vote = Some(Vote::new(term, 1)),
            Step::Append { term, first, count } => {
                let new = entries(term, first, count);
                self.entries
                    .extend(new.into_iter().map(|entry| (entry.log_id.index, entry)));
            }
            Step::Truncate(from) => drop(self.entries.split_off(&from.index)),
            Step::Commit(_) => {}
            Step::Snapshot(upto) => self.snapshot = Some(upto),
            Step::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(upto);
            }
        }
    }
}

struct Node {
    log: LogStore<CutDisk>,
    machine: StateMachine<CutDisk>,
}

impl Node {
    async fn open(disk: &CutDisk) -> Result<Self, crate::StoreError> {
        Self::open_with(disk, &Room::default()).await
    }

    async fn open_with(disk: &CutDisk, room: &Room) -> Result<Self, crate::StoreError> {
        let config = QuorumConfig {
            inline_disk: true,
            ..QuorumConfig::new(1, PathBuf::from("node/quorum"))
        };
        let (log, machine) = store::open(&config, disk.clone(), Arc::new(|_, _| {}), room).await?;
        Ok(Self { log, machine })
    }

    async fn take(&mut self, step: &Step) -> Result<(), StorageError> {
        match *step {
            Step::Vote(term) => self.log.save_vote(&Vote::new(term, 1)).await,
            Step::Append { term, first, count } => {
                self.log.blocking_append(entries(term, first, count)).await
            }
            Step::Truncate(from) => self.log.truncate(from).await,
            Step::Commit(upto) => self.log.save_committed(Some(upto)).await,
            Step::Snapshot(upto) => {
                let (applied, _) = self.machine.applied_state().await?;
                let from = applied.map_or(0, |applied| applied.index + 1);
                let entries = self.log.try_get_log_entries(from..=upto.index).await?;
                self.machine.apply(entries).await?;
                let mut builder = self.machine.get_snapshot_builder().await;
                builder.build_snapshot().await.map(drop)
            }
            Step::Purge(upto) => self.log.purge(upto).await,
        }
    }

    async fn promises(&mut self) -> Promises {
        let entries = self.log.try_get_log_entries(..).await.unwrap();
        let snapshot = self.machine.get_current_snapshot().await.unwrap();
        Promises {
            vote: self.log.read_vote().await.unwrap(),
            purged: self.log.get_log_state().await.unwrap().last_purged_log_id,
            entries: entries
                .into_iter()
                .map(|entry| (entry.log_id.index, entry))
                .collect(),
            snapshot: snapshot.and_then(|snapshot| snapshot.meta.last_log_id),
        }
    }
}

/// A node's life: it follows, is corrected, votes, takes a snapshot, purges and goes on.
fn life() -> Vec<Step> {
    let append = |term, first, count| Step::Append { term, first, count };
    vec![
        Step::Vote(1),
        append(1, 0, 3),
        Step::Commit(id(1, 1)),
        append(1, 3, 4),
        Step::Vote(2),
        Step::Truncate(id(1, 5)),
        append(2, 5, 3),
        Step::Commit(id(2, 6)),
        Step::Snapshot(id(2, 6)),
        Step::Purge(id(1, 4)),
        append(2, 8, 2),
        Step::Vote(3),
        Step::Commit(id(2, 9)),
        Step::Snapshot(id(2, 9)),
        Step::Purge(id(2, 9)),
        append(3, 10, 30),
        Step::Vote(4),
    ]
}

/// What may be there after a crash in a step: what was there before it, or what was after it, or some of its entries.
fn is_kept(found: &Promises, before: &Promises, step: &Step) -> bool {
    let mut after = before.clone();
    after.keep(step);
    let some_entries = match *step {
        Step::Append { term, first, count } => (1..count).any(|some| {
            let mut between = before.clone();
            between.keep(&Step::Append {
                term,
                first,
                count: some,
            });
            *found == between
        }),
        _ => false,
    };
    found == before || *found == after || some_entries
}

/// Lives until the power fails after `operations`. Tells false if it did not.
async fn live(seed: u64, operations: i64) -> bool {
    let disk = CutDisk::new(seed);
    disk.cut_after(operations);
    let mut promised = Promises::default();
    let mut in_doubt = None;
    if let Ok(mut node) = Node::open(&disk).await {
        for step in life() {
            if node.take(&step).await.is_err() {
                in_doubt = Some(step);
                break;
            }
            promised.keep(&step);
        }
    }
    let is_cut = disk.is_cut();
    // Once more in the middle of the start that follows, and then a start that gets through.
    for again in [seed as i64 % 7, i64::MAX] {
        disk.power_on();
        disk.cut_after(again);
        let Ok(mut node) = Node::open(&disk).await else {
            assert!(
                disk.is_cut(),
                "seed {seed}, cut {operations}: the store does not open"
            );
            continue;
        };
        let found = node.promises().await;
        let is_kept = match &in_doubt {
            Some(step) => is_kept(&found, &promised, step),
            None => found == promised,
        };
        assert!(
            is_kept,
            "seed {seed}, cut {operations} in {in_doubt:?}: promised {promised:?}, found {found:?}"
        );
        // What was in doubt is not any more: whoever has read it may promise it.
        promised = found;
        in_doubt = None;
        if disk.is_cut() {
            continue;
        }
        let vote = Step::Vote(9);
        if node.take(&vote).await.is_ok() {
            promised.keep(&vote);
        } else {
            in_doubt = Some(vote);
        }
    }
    is_cut
}

#[tokio::test]
async fn what_was_promised_survives_a_crash_in_every_operation() {
    let mut operations = 0;
    while live(operations as u64, operations).await {
        for seed in 1..20 {
            live(seed * 1000 + operations as u64, operations).await;
        }
        operations += 1;
    }
    assert!(operations > 50, "only {operations} operations");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_purged_before_a_snapshot_on_the_disk_holds_it() {
    let disk = CutDisk::new(1);
    let mut node = Node::open(&disk).await.unwrap();
    for step in &life()[..2] {
        node.take(step).await.unwrap();
    }
    let second = Duration::from_secs(1);
    let purge = tokio::time::timeout(second, node.log.purge(id(1, 1))).await;
    assert!(purge.is_err(), "the log is all there is");
    node.take(&Step::Snapshot(id(1, 1))).await.unwrap();
    node.take(&Step::Purge(id(1, 1))).await.unwrap();
}

#[tokio::test]
async fn after_a_failed_write_nothing_more_is_promised() {
    let disk = CutDisk::new(1);
    let mut node = Node::open(&disk).await.unwrap();
    disk.cut_after(1);
    node.take(&Step::Vote(5)).await.unwrap_err();
    // The disk is well again, but nobody knows what is on it.
    disk.cut_after(i64::MAX);
    let error = node.take(&Step::Vote(6)).await.unwrap_err();
    assert!(error.to_string().contains("takes nothing more"), "{error}");
}

/// How it ends that a disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The power fails.
    Crash,
    /// The node is told to end, and its log is used once more all the same.
    GiveUp,
    /// There is room again, and the node goes on.
    Room,
}

/// Lives with a disk that is full after some writes, and then the power fails. Tells false if it was never full.
async fn live_full(seed: u64, writes: i64, ending: Ending) -> bool {
    let disk = CutDisk::new(seed);
    let room = Room::default();
    let mut node = Node::open_with(&disk, &room).await.unwrap();
    disk.fill_after(writes);
    let was_full = Cell::new(false);
    let mut promised = Promises::default();
    let mut in_doubt = None;
    for step in life() {
        let relief = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(room.is_awaited() && disk.is_full());
            was_full.set(true);
            match ending {
                Ending::Crash => {}
                Ending::GiveUp => room.give_up(),
                Ending::Room => disk.make_room(),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let done = tokio::select! {
            done = node.take(&step) => Some(done),
            () = relief => None,
        };
        if !matches!(done, Some(Ok(()))) {
            in_doubt = Some(step);
            break;
        }
        promised.keep(&step);
    }
    let was_full = was_full.get();
    assert_eq!(in_doubt.is_some(), was_full && ending != Ending::Room);
    assert!(!room.is_awaited());
    disk.make_room();
    if ending == Ending::GiveUp && in_doubt.is_some() {
        let vote = Step::Vote(8);
        node.take(&vote).await.unwrap();
        promised.keep(&vote);
    }
    disk.power_on();
    let opened = Node::open(&disk).await;
    let mut node = opened.unwrap_or_else(|error| panic!("seed {seed}, full after {writes}: {error}"));
    let found = node.promises().await;
    let is_kept = match &in_doubt {
        Some(Step::Vote(_)) if ending == Ending::GiveUp => found == promised,
        Some(step) => is_kept(&found, &promised, step),
        None => found == promised,
    };
    assert!(
        is_kept,
        "seed {seed}, full after {writes} in {in_doubt:?}, {ending:?}: promised {promised:?}, found {found:?}"
    );
    was_full
}

#[tokio::test(start_paused = true)]
async fn what_was_promised_survives_a_disk_that_is_full_at_every_write() {
    for ending in [Ending::Crash, Ending::GiveUp, Ending::Room] {
        let mut writes = 0;
        while live_full(writes as u64, writes, ending).await {
            for seed in 1..10 {
                live_full(seed * 1000 + writes as u64, writes, ending).await;
            }
            writes += 1;
        }
        assert!(writes > 15, "only {writes} writes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_finds_no_room_is_not_tried_again() {
    let purge = [
        Step::Vote(1),
        life()[1].clone(),
        Step::Snapshot(id(1, 1)),
        Step::Purge(id(1, 1)),
    ];
    // The vote's only sync; then that of the directory, after the file is placed.
    for (before, step, syncs) in [(0, &purge[0], 0), (3, &purge[3], 1), (2, &purge[2], 1)] {
        let disk = CutDisk::new(1);
        let room = Room::default();
        let mut node = Node::open_with(&disk, &room).await.unwrap();
        for step in &purge[..before] {
            node.take(step).await.unwrap();
        }
        disk.find_full_after(syncs);
        let second = Duration::from_secs(1);
        let done = tokio::time::timeout(second, node.take(step)).await;
        let error = done.expect("nothing is waited for").unwrap_err();
        assert!(error.to_string().contains("may not be on the disk"), "{error}");
        if !matches!(step, Step::Snapshot(_)) {
            let error = node.take(&Step::Vote(6)).await.unwrap_err();
            assert!(error.to_string().contains("takes nothing more"), "{error}");
        }
    }
}
