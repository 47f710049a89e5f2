//! A group: its members, its generation, its offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::consumer::ConsumerGroup;
use super::record::{GroupValue, Key, MemberValue, OffsetValue, Record, Value};
use super::transactional::PendingOffsets;
use super::types::{GroupError, Identity};
use super::{Env, Member, Timer};

/// What a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All joined; the leader assigns.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// It does not exist.
    Dead,
}

impl State {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) id: Arc<str>,
    pub(super) state: State,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Which member has an instance id.
    pub(super) instances: BTreeMap<String, Arc<str>>,
    /// Member ids that were given to clients who have not joined with them yet.
    pub(super) pending: BTreeSet<Arc<str>>,
    /// Members that have joined this generation and not asked for their assignment.
    pub(super) unsynced: BTreeSet<Arc<str>>,
    /// When the last one came since the initial delay began, if somebody did.
    pub(super) came_ms: Option<i64>,
    /// When the group became empty, in milliseconds since 1970.
    pub(super) empty_since_ms: Option<i64>,
    pub(super) offsets: BTreeMap<Arc<str>, BTreeMap<i32, OffsetValue>>,
    /// Those of transactions that have not ended.
    pub(super) pending_offsets: PendingOffsets,
    /// The last record about the group itself.
    pub(super) written: Option<GroupValue>,
    /// What there is instead of all that but id and offsets, if the group follows KIP-848. While it has no members there
    /// may be both: a client of the classic protocol joins, and that was not written yet.
    pub(super) consumer: Option<Box<ConsumerGroup>>,
}

impl Group {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            came_ms: None,
            empty_since_ms: None,
            offsets: BTreeMap::new(),
            pending_offsets: PendingOffsets::default(),
            written: None,
            consumer: None,
        }
    }

    /// What is left when it changes its protocol: its offsets.
    pub(super) fn with_offsets_only(&mut self) {
        let offsets = std::mem::take(&mut self.offsets);
        let pending_offsets = std::mem::take(&mut self.pending_offsets);
        *self = Self {
            offsets,
            pending_offsets,
            ..Self::new(self.id.clone())
        };
    }

    /// Whether it follows KIP-848 and has members.
    pub(super) fn has_consumer_members(&self) -> bool {
        self.consumer
            .as_ref()
            .is_some_and(|consumer| !consumer.is_empty())
    }

    /// Says that there is no such classic group any more.
    pub(super) fn tombstone_of_group(&self) -> Record {
        let group = self.id.clone();
        Record {
            key: Key::Group { group },
            value: None,
        }
    }

    /// Whether nothing is known about it that somebody could ask for.
    pub(super) fn is_forgotten(&self) -> bool {
        self.state == State::Empty
            && self.written.is_none()
            && self.offsets.is_empty()
            && self.pending_offsets.is_empty()
            && self.pending.is_empty()
            && self.consumer.is_none()
    }

    /// Takes over what a record says, and keeps what members wait for.
    pub(super) fn replay(&mut self, value: &GroupValue) {
        self.consumer = None;
        let protocol = value.protocol.clone().unwrap_or_default();
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        self.protocol.clone_from(&value.protocol);
        self.leader.clone_from(&value.leader);
        self.members.retain(|id, _| value.members.contains_key(id));
        for (id, written) in &value.members {
            match self.members.get_mut(id) {
                Some(member) => member.assignment = written.assignment.clone(),
                None => {
                    self.members
                        .insert(id.clone(), Member::replayed(written, &protocol));
                }
            }
        }
        self.instances = self
            .members
            .iter()
            .filter_map(|(id, m)| m.instance.clone().map(|instance| (instance, id.clone())))
            .collect();
        self.state = if self.members.is_empty() {
            State::Empty
        } else {
            State::Stable
        };
        self.empty_since_ms = value.state_since_ms.filter(|_| self.members.is_empty());
        self.written = Some(value.clone());
    }

    /// The record that says what the group is, with these assignments.
    pub(super) fn record(&self, assignments: &BTreeMap<String, Arc<[u8]>>, now_ms: i64) -> Record {
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = |(id, member): (&Arc<str>, &Member)| {
            let value = MemberValue {
                instance: member.instance.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: member.metadata(&protocol),
                assignment: assignments.get(&**id).cloned().unwrap_or_default(),
            };
            (id.clone(), value)
        };
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: Some(now_ms),
            members: self.members.iter().map(member).collect(),
        };
        Record {
            key: Key::Group {
                group: self.id.clone(),
            },
            value: Some(Value::Group(value)),
        }
    }

    /// Checks that a member is who it says (KIP-345).
    pub(super) fn check_member(&self, member: &str, instance: Option<&str>) -> Result<Arc<str>, GroupError> {
        if let Some(instance) = instance {
            let known = self.instances.get(instance).ok_or(GroupError::UnknownMemberId)?;
            if **known != *member {
                return Err(GroupError::FencedInstanceId);
            }
        }
        self.members
            .get_key_value(member)
            .map(|(id, _)| id.clone())
            .ok_or(GroupError::UnknownMemberId)
    }

    /// Checks that a member is who it says, and of this generation.
    pub(super) fn check_identity(&self, who: &Identity) -> Result<Arc<str>, GroupError> {
        let member = self.check_member(&who.member, who.instance.as_deref())?;
        if who.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(member)
    }

    /// A sign of life.
    pub(super) fn extend_session(&mut self, member: &Arc<str>, env: &mut Env<'_>) {
        let timeout_ms = self
            .members
            .get(member)
            .map_or(0, |m| i64::from(m.session_timeout_ms));
        env.timers
            .set(&self.id, Timer::Session(member.clone()), env.now_ms + timeout_ms);
    }

    /// How long a rebalance waits: for the most patient member.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|m| i64::from(m.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }
}
