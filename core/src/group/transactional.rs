//! Offsets that are committed inside transactions (KIP-98, KIP-447).
//!
//! A producer that reads, works and writes commits how far it has read in the same transaction as what it wrote. Those
//! offsets are in the log as all others are, but in batches of that producer, and count once a marker says that its
//! transaction is committed. Until then they are pending: beside the offset that counts, and one for each producer.
//!
//! Of all that counts, the offset counts that is latest in the log. A pending one that has a later one behind it is of
//! no use any more, though who wants stable offsets still waits for the end of its transaction. A tombstone takes what
//! is pending with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Groups;
use super::record::{Key, OffsetValue, Record, Value};
use super::state::{Group, State};
use super::types::{CommittedOffset, GroupError, Identity, Step, TxnCommitRequest};
use crate::mutation::{Mutation, is_on};

impl Groups {
    /// Keeps offsets once the transaction of the producer is committed; says for each whether it will be kept. Whether the
    /// producer may write is not looked at: the log knows.
    ///
    /// # Errors
    /// Who asks may not commit for the group.
    pub fn txn_commit(
        &mut self,
        now_ms: i64,
        request: &TxnCommitRequest,
    ) -> (Result<Vec<Result<(), GroupError>>, GroupError>, Step) {
        let who = &request.who;
        let (answers, mut step) = self.commit_if(now_ms, who, &request.offsets, |group, topics, _| {
            match &group.consumer {
                Some(_) if who.is_unnamed() => Ok(()),
                Some(consumer) => consumer
                    .check_commit(who, &request.offsets, topics)
                    .map_err(GroupError::of_transaction),
                None => group.check_txn_commit(who),
            }
        });
        if answers.is_ok() {
            step.producer = Some(request.producer);
        }
        (answers, step)
    }

    /// Takes over one record of the log that is in a batch of a transaction of this producer. What is no offset counts
    /// at once, as Kafka has it.
    pub fn replay_pending(&mut self, producer_id: i64, record: &Record) {
        let (
            Key::Offset {
                group: id,
                topic,
                partition,
            },
            Some(Value::Offset(value)),
        ) = (&record.key, &record.value)
        else {
            return self.replay(record);
        };
        if is_on(Mutation::EarlyOffsets) {
            return self.replay(record);
        }
        let group = self
            .groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id.clone()));
        let pending = &mut group.pending_offsets;
        pending.insert(producer_id, topic, *partition, value.clone());
        self.transactions.note(producer_id, id, topic, *partition);
    }

    /// Takes over a marker of the log: the transaction of this producer has ended, and what it committed counts or is
    /// dropped.
    pub fn replay_marker(&mut self, producer_id: i64, is_commit: bool) {
        for (id, topic, partition) in self.transactions.end(producer_id) {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            let pending = &mut group.pending_offsets;
            if let Some(value) = pending.end(producer_id, &topic, partition, is_commit) {
                group.offsets.entry(topic).or_default().insert(partition, value);
            }
            self.forget_if_unused(&id);
        }
    }

    /// Whether there are offsets in transactions that have not ended. [`Groups::live_records`] does not have them, so the
    /// log must not be written anew.
    pub fn has_pending(&self) -> bool {
        !self.transactions.0.is_empty()
    }

    /// The offset of a group in a partition, if one is kept. `require_stable` is of KIP-447.
    ///
    /// # Errors
    /// It must be stable, but a transaction may change it.
    pub fn fetch_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        require_stable: bool,
    ) -> Result<Option<&OffsetValue>, GroupError> {
        if require_stable && self.is_pending(group, topic, partition) {
            return Err(GroupError::UnstableOffsetCommit);
        }
        Ok(self.offset(group, topic, partition))
    }

    /// A record that says once more what is kept of a partition. Who must not hear of an old offset, since it goes on from
    /// there under a transactional id of its own, waits until this is durable: a coordinator that was replaced and does
    /// not know it yet answers nothing then. To be written while nothing is pending there.
    pub fn confirmation(&self, group: &str, topic: &str, partition: i32) -> Record {
        let value = self.offset(group, topic, partition);
        Record {
            key: Key::Offset {
                group: group.into(),
                topic: topic.into(),
                partition,
            },
            value: value.cloned().map(Value::Offset),
        }
    }

    /// All offsets of a group, in the order of topics and partitions. Those that must be stable, but that a transaction may
    /// change, have an error; first ones, of partitions in which none is kept yet, are not in it, as in Kafka.
    pub fn fetch_offsets(&self, group: &str, require_stable: bool) -> Vec<CommittedOffset> {
        let mut rows = self.offsets(group);
        for row in &mut rows {
            if require_stable && self.is_pending(group, &row.topic, row.partition) {
                row.offset = -1;
                row.leader_epoch = -1;
                row.metadata.clear();
                row.error = Some(GroupError::UnstableOffsetCommit);
            }
        }
        rows
    }

    fn is_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        let group = self.groups.get(group);
        group.is_some_and(|group| group.pending_offsets.contains(topic, partition))
    }
}

impl Group {
    /// As for other commits, but clients of before KIP-447 do not say who they are, sessions get no longer by it, and it
    /// is allowed while the leader assigns.
    fn check_txn_commit(&self, who: &Identity) -> Result<(), GroupError> {
        let is_nobody = who.generation < 0 && who.member.is_empty() && who.instance.is_none();
        if is_nobody || (who.generation < 0 && self.state == State::Empty) {
            return Ok(());
        }
        self.check_identity(who).map(drop)
    }
}

impl Identity {
    /// Whether it says nothing but the group.
    fn is_unnamed(&self) -> bool {
        self.generation == -1 && self.member.is_empty() && self.instance.is_none()
    }
}

impl GroupError {
    /// TxnOffsetCommit has no error of its own for stale epochs.
    fn of_transaction(self) -> Self {
        match self {
            Self::StaleMemberEpoch => Self::IllegalGeneration,
            other => other,
        }
    }
}

/// Offsets of a group that count once the transactions that they are in are committed: by topic and partition, in the
/// order of the log. Of a producer there is at most one for a partition.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingOffsets(BTreeMap<Arc<str>, BTreeMap<i32, Vec<Pending>>>);

/// An offset of a transaction.
#[derive(Debug, Clone)]
struct Pending {
    producer_id: i64,
    /// None where one counts that is later in the log.
    value: Option<OffsetValue>,
}

impl PendingOffsets {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, topic: &str, partition: i32) -> bool {
        self.0
            .get(topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Topics that have some.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// Partitions of a topic that have some.
    pub(super) fn partitions(&self, topic: &str) -> impl Iterator<Item = i32> {
        let partitions = self.0.get(topic).into_iter();
        partitions.flat_map(BTreeMap::keys).copied()
    }

    /// An offset counts that is later in the log than all that are here for its partition.
    pub(super) fn supersede(&mut self, topic: &str, partition: i32) {
        let partitions = self.0.get_mut(topic);
        for pending in partitions
            .and_then(|p| p.get_mut(&partition))
            .into_iter()
            .flatten()
        {
            pending.value = None;
        }
    }

    /// Forgets all of a partition; says whose they were.
    pub(super) fn forget(&mut self, topic: &str, partition: i32) -> impl Iterator<Item = i64> + use<> {
        let partitions = self.0.get_mut(topic);
        let forgotten = partitions.and_then(|partitions| partitions.remove(&partition));
        self.drop_if_empty(topic);
        let forgotten = forgotten.into_iter().flatten();
        forgotten.map(|pending| pending.producer_id)
    }

    fn insert(&mut self, producer_id: i64, topic: &Arc<str>, partition: i32, value: OffsetValue) {
        let partitions = self.0.entry(topic.clone()).or_default();
        let pending = partitions.entry(partition).or_default();
        pending.retain(|pending| pending.producer_id != producer_id);
        pending.push(Pending {
            producer_id,
            value: Some(value),
        });
    }

    /// The transaction of a producer has ended. The offset that counts from now on, if one does.
    fn end(&mut self, producer_id: i64, topic: &str, partition: i32, is_commit: bool) -> Option<OffsetValue> {
        let partitions = self.0.get_mut(topic)?;
        let all = partitions.get_mut(&partition)?;
        let at = all
            .iter()
            .position(|pending| pending.producer_id == producer_id)?;
        let counts = all.remove(at).value.filter(|_| is_commit);
        if counts.is_some() {
            for earlier in &mut all[..at] {
                earlier.value = None;
            }
        }
        if all.is_empty() {
            partitions.remove(&partition);
            self.drop_if_empty(topic);
        }
        counts
    }

    fn drop_if_empty(&mut self, topic: &str) {
        if self.0.get(topic).is_some_and(BTreeMap::is_empty) {
            self.0.remove(topic);
        }
    }
}

/// Where an offset is kept: group, topic, partition.
type Place = (Arc<str>, Arc<str>, i32);

/// Where the offsets are of each producer whose transaction has not ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Transactions(BTreeMap<i64, BTreeSet<Place>>);

impl Transactions {
    fn note(&mut self, producer_id: i64, group: &Arc<str>, topic: &Arc<str>, partition: i32) {
        let places = self.0.entry(producer_id).or_default();
        places.insert((group.clone(), topic.clone(), partition));
    }

    pub(super) fn forget(&mut self, producer_id: i64, group: &Arc<str>, topic: &Arc<str>, partition: i32) {
        if let Some(places) = self.0.get_mut(&producer_id) {
            places.remove(&(group.clone(), topic.clone(), partition));
            if places.is_empty() {
                self.0.remove(&producer_id);
            }
        }
    }

    fn end(&mut self, producer_id: i64) -> BTreeSet<Place> {
        self.0.remove(&producer_id).unwrap_or_default()
    }
}
