//! The coordinator of consumer groups: who is a member, who consumes what, and how far.
//!
//! A state machine like Kafka's `GroupMetadataManager`: requests and the time come in; records to write and answers
//! to give come out as a [`Step`]. The driver appends the records, then hands each to [`Groups::replay`], live and
//! when it loads the log alike: only that changes offsets, assignments and which groups exist. What members are doing
//! at the moment (who waits for a rebalance, deadlines) is lost with the coordinator, and clients cope with that.
//! This folder has the classic protocol and the offsets, those of transactions included; `consumer/` has that of KIP-848.
//!
//! Answers leave once every record before them is durable; the driver sees to that. Sources: Kafka's protocol guide,
//! KIP-62 (rebalance timeout), KIP-134 (initial delay), KIP-211 (expiry of offsets), KIP-345 and KIP-814 (static
//! members), KIP-394 (member ids are required), KIP-98 and KIP-447 (offsets in transactions).

use std::collections::BTreeMap;
use std::sync::Arc;

pub mod consumer;
mod describe;
mod join;
mod leave;
mod member;
mod offsets;
mod rebalance;
mod record;
mod state;
mod sync;
mod timers;
mod transactional;
mod types;

pub use record::{GroupValue, Key, MemberValue, OffsetValue, Record, RecordError, Value};
pub use state::State;
pub use types::{
    AnyState, CommitRequest, CommittedOffset, Event, GroupConfig, GroupDescription, GroupError, GroupListing,
    Identity, JoinRequest, JoinResponse, JoinedMember, LeaveMember, MemberDescription, OffsetCommit,
    Response, Step, SyncRequest, SyncResponse, Token, TxnCommitRequest,
};

use consumer::{ConsumerGroup, ConsumerKey, ConsumerValue, OwnConfigs, Part, Topics};
use member::Member;
use state::Group;
use timers::{Timer, Timers};
use transactional::Transactions;

use crate::mutation::{Mutation, is_on};

/// All groups of one partition of `__consumer_offsets`.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    config: GroupConfig,
    groups: BTreeMap<Arc<str>, Group>,
    timers: Timers,
    topics: Arc<Topics>,
    own: Arc<OwnConfigs>,
    transactions: Transactions,
}

/// What the methods of a group may touch besides the group.
struct Env<'a> {
    config: &'a GroupConfig,
    timers: &'a mut Timers,
    step: &'a mut Step,
    now_ms: i64,
}

impl Groups {
    /// No groups yet.
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// The cluster has these topics now. Groups that follow KIP-848 act on it with their next heartbeats; before the
    /// first call they take none.
    pub fn topics_changed(&mut self, topics: Arc<Topics>) {
        if !self.topics.are_known() || !self.topics.has_same(&topics) {
            self.topics = topics;
        }
    }

    /// Groups set this for themselves now. Sessions that have begun end when they were to.
    pub fn own_configs_changed(&mut self, own: Arc<OwnConfigs>) {
        self.own = own;
    }

    /// The bounds that hold.
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Takes over one record of the log: the only way in which offsets, assignments and groups come and go.
    pub fn replay(&mut self, record: &Record) {
        match (&record.key, &record.value) {
            (
                Key::Offset {
                    group,
                    topic,
                    partition,
                },
                value,
            ) => match value {
                Some(Value::Offset(value)) => self.replay_offset(group, topic, *partition, value),
                _ => self.replay_offset_gone(group, topic, *partition),
            },
            (Key::Group { group }, Some(Value::Group(value))) => {
                let id = group.clone();
                self.groups
                    .entry(id.clone())
                    .or_insert_with(|| Group::new(id))
                    .replay(value);
            }
            (Key::Group { group }, _) => {
                self.timers.cancel_group(group);
                if let Some(found) = self.groups.get_mut(group).filter(|g| g.consumer.is_none()) {
                    found.with_offsets_only();
                    self.forget_if_unused(group);
                }
            }
            (Key::Consumer(ConsumerKey { group, part }), Some(Value::Consumer(value))) => {
                self.replay_consumer(group, part, value);
            }
            (Key::Consumer(ConsumerKey { group, part }), _) => self.replay_consumer_gone(group, part),
        }
    }

    fn replay_offset(&mut self, id: &Arc<str>, topic: &Arc<str>, partition: i32, value: &OffsetValue) {
        let group = self
            .groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id.clone()));
        group.pending_offsets.supersede(topic, partition);
        group
            .offsets
            .entry(topic.clone())
            .or_default()
            .insert(partition, value.clone());
    }

    fn replay_offset_gone(&mut self, id: &Arc<str>, topic: &Arc<str>, partition: i32) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if let Some(partitions) = group.offsets.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                group.offsets.remove(topic);
            }
        }
        for producer in group.pending_offsets.forget(topic, partition) {
            self.transactions.forget(producer, id, topic, partition);
        }
        self.forget_if_unused(id);
    }

    fn replay_consumer(&mut self, id: &Arc<str>, part: &Part, value: &ConsumerValue) {
        let group = self
            .groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id.clone()));
        if group.consumer.is_none() {
            group.with_offsets_only();
        }
        group.consumer.get_or_insert_default().replay(part, Some(value));
    }

    fn replay_consumer_gone(&mut self, id: &Arc<str>, part: &Part) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let Some(consumer) = &mut group.consumer else {
            return;
        };
        consumer.replay(part, None);
        if let Part::Member(member) = part {
            self.timers.cancel_member(id, member);
        }
        if consumer.is_nothing() {
            group.consumer = None;
            self.forget_if_unused(id);
        }
    }

    /// The log is loaded: members that were there have their session timeout to come back in.
    pub fn loaded(&mut self, now_ms: i64) -> Step {
        let mut step = Step::default();
        for group in self.groups.values_mut() {
            let mut env = Env {
                config: &self.config,
                timers: &mut self.timers,
                step: &mut step,
                now_ms,
            };
            for id in group.members.keys().cloned().collect::<Vec<_>>() {
                group.extend_session(&id, &mut env);
            }
            let has_leader = group.leader.is_some() || group.members.is_empty();
            if group.members.len() > self.config.members_max || !has_leader {
                group.prepare_rebalance(&mut env);
            }
        }
        for id in self.groups.keys().cloned().collect::<Vec<_>>() {
            if is_on(Mutation::ForgetSessions) {
                break;
            }
            self.begin_sessions(&id, now_ms);
        }
        step
    }

    /// When [`Groups::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next()
    }

    /// Does what is due: members whose session ended leave, rebalances that waited long enough go on.
    pub fn tick(&mut self, now_ms: i64) -> Step {
        let mut step = Step::default();
        // Those of a group of KIP-848 go together: what follows from that depends on who is left.
        let mut silent: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        while let Some((id, timer)) = self.timers.pop_due(now_ms) {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            if group.has_consumer_members() {
                match timer {
                    Timer::Converted => self.begin_sessions(&id, now_ms),
                    timer => {
                        let gone = self.overdue(&id, &timer, now_ms);
                        step.events.extend(gone.iter().map(|_| match timer {
                            Timer::Revocation(..) => Event::Fenced,
                            _ => Event::Expired,
                        }));
                        silent.entry(id.clone()).or_default().extend(gone);
                    }
                }
                continue;
            }
            let mut env = Env {
                config: &self.config,
                timers: &mut self.timers,
                step: &mut step,
                now_ms,
            };
            match timer {
                Timer::Session(member) => group.session_ended(&member, &mut env),
                Timer::Pending(member) => group.pending_member_gone(&member, &mut env),
                Timer::Initial { remaining_ms } => group.initial_delay_over(remaining_ms, &mut env),
                Timer::Join => group.complete_join(&mut env),
                Timer::Sync => group.sync_overdue(&mut env),
                Timer::Converted => group.converted(&mut env),
                Timer::Revocation(..) | Timer::Rejoin(_) | Timer::Resync(_) => {}
            }
            self.forget_if_unused(&id);
        }
        for (id, members) in silent {
            step.records.extend(self.fence(&id, &members, now_ms).records);
        }
        step
    }

    /// Every record that makes the state there is: what a compacted log holds.
    pub fn live_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for group in self.groups.values() {
            if let Some(value) = &group.written {
                let key = Key::Group {
                    group: group.id.clone(),
                };
                records.push(Record {
                    key,
                    value: Some(Value::Group(value.clone())),
                });
            }
            let consumer = group.consumer.iter();
            records.extend(consumer.flat_map(|consumer| consumer.live_records(&group.id)));
            for (topic, partitions) in &group.offsets {
                for (partition, value) in partitions {
                    let key = Key::Offset {
                        group: group.id.clone(),
                        topic: topic.clone(),
                        partition: *partition,
                    };
                    records.push(Record {
                        key,
                        value: Some(Value::Offset(value.clone())),
                    });
                }
            }
        }
        records
    }

    /// How many records [`Groups::live_records`] has.
    pub fn live_record_count(&self) -> usize {
        let count = |group: &Group| {
            let consumer = group.consumer.as_deref();
            usize::from(group.written.is_some())
                + consumer.map_or(0, ConsumerGroup::live_record_count)
                + group.offsets.values().map(BTreeMap::len).sum::<usize>()
        };
        self.groups.values().map(count).sum()
    }

    /// The coordinator stops: requests that wait are answered with `error`.
    pub fn close(&mut self, error: GroupError) -> Step {
        let mut step = Step::default();
        for member in self.groups.values_mut().flat_map(|g| g.members.values_mut()) {
            member.answer_waiting(error, &mut step);
        }
        step
    }

    /// Works on a group that exists.
    fn with_group<T>(
        &mut self,
        id: &str,
        now_ms: i64,
        work: impl FnOnce(&mut Group, &mut Env<'_>) -> T,
    ) -> (Option<T>, Step) {
        let mut step = Step::default();
        let Some(group) = self.groups.get_mut(id) else {
            return (None, step);
        };
        let mut env = Env {
            config: &self.config,
            timers: &mut self.timers,
            step: &mut step,
            now_ms,
        };
        let answer = work(group, &mut env);
        self.forget_if_unused(id);
        (Some(answer), step)
    }

    /// Groups that nothing was ever written about vanish with their last member.
    fn forget_if_unused(&mut self, id: &str) {
        if self.groups.get(id).is_some_and(Group::is_forgotten) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &str) {
        self.groups.remove(id);
        self.timers.cancel_group(id);
    }
}

#[cfg(test)]
mod tests;
