//! The consumer group protocol of KIP-848: members say with every heartbeat what they want and have, and the
//! coordinator decides who gets what.
//!
//! Three epochs say how far things are. The group's grows with every change of members, subscriptions or topics. The
//! target assignment has the epoch of the group that it was made for. A member's own is that of the target that it has
//! reached. On the way there it first gives back what it shall not have any more, and it gets nothing before its former
//! owner gave that back or is out (`reconcile.rs`): so no partition ever has two owners.
//!
//! All of that is in the log. A [`Draft`] is what a group will be when the records in it are replayed: a request makes
//! records and sees at once what comes of them, and the group itself changes only by [`ConsumerGroup::replay`]. Deadlines
//! are not in the log; members get new ones when it is loaded.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub mod assignor;
mod classic;
mod config;
mod convert;
mod describe;
mod embedded;
mod heartbeat;
mod leave;
mod member;
mod offsets;
mod pattern;
mod reconcile;
pub(in crate::group) mod record;
mod target;
mod timeouts;
mod topics;
mod types;

pub use config::{ConsumerConfig, OwnConfig, OwnConfigError, OwnConfigs};
pub use pattern::Pattern;
pub use record::{
    ClassicValue, ConsumerKey, ConsumerValue, CurrentValue, EpochValue, Held, MemberState, MemberValue, Part,
    Partitions, PatternValue, TargetValue,
};
pub use topics::{TopicFacts, Topics};
pub use types::{
    AssignedTopic, ConsumerAnswer, ConsumerDescription, ConsumerHeartbeat, ConsumerMemberDescription,
    ConsumerState, JOIN_EPOCH, LEAVE_EPOCH, Migration, PAUSE_EPOCH,
};

pub(super) use member::ConsumerMember;

use super::Groups;
use super::record::{Key, Record, Value};

/// What a group that follows KIP-848 has beside its offsets.
#[derive(Debug, Clone, Default)]
pub(super) struct ConsumerGroup {
    written: EpochValue,
    target: TargetValue,
    members: BTreeMap<Arc<str>, Arc<ConsumerMember>>,
    /// Which member has an instance id.
    instances: BTreeMap<String, Arc<str>>,
    targets: BTreeMap<Arc<str>, Arc<Partitions>>,
    patterns: BTreeMap<Arc<str>, Arc<PatternValue>>,
    /// The version of the topics for which nothing had to be done; not in the log.
    settled_at: Option<u64>,
    /// Until then members are to come again soon: they hear only in answers what they have to give back; not in the log.
    restless_until_ms: i64,
}

impl ConsumerGroup {
    /// Takes over one record.
    pub(super) fn replay(&mut self, part: &Part, value: Option<&ConsumerValue>) {
        self.settled_at = None;
        match (part, value) {
            (Part::Group, Some(ConsumerValue::Group(value))) => self.written = *value,
            (Part::Group, _) => self.written = EpochValue::default(),
            (Part::Target, Some(ConsumerValue::Target(value))) => self.target = *value,
            (Part::Target, _) => self.target = TargetValue::default(),
            (Part::TargetOf(id), Some(ConsumerValue::TargetOf(partitions))) => {
                self.targets.insert(id.clone(), Arc::new(partitions.clone()));
            }
            (Part::TargetOf(id), _) => {
                self.targets.remove(id);
            }
            (Part::Pattern(pattern), Some(ConsumerValue::Pattern(value))) => {
                self.patterns.insert(pattern.clone(), Arc::new(value.clone()));
            }
            (Part::Pattern(pattern), _) => {
                self.patterns.remove(pattern);
            }
            (Part::Member(id), Some(ConsumerValue::Member(value))) => {
                self.forget_instance(id);
                if let Some(instance) = &value.instance {
                    self.instances.insert(instance.clone(), id.clone());
                }
                Arc::make_mut(self.members.entry(id.clone()).or_default()).wants = value.clone();
            }
            (Part::Member(id), _) => {
                self.forget_instance(id);
                self.members.remove(id);
            }
            (Part::Current(id), Some(ConsumerValue::Current(value))) => {
                Arc::make_mut(self.members.entry(id.clone()).or_default()).has = value.clone();
            }
            (Part::Current(id), _) => {
                if let Some(member) = self.members.get_mut(id) {
                    Arc::make_mut(member).has = CurrentValue::default();
                }
            }
        }
    }

    fn forget_instance(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.members.get(id).and_then(|m| m.wants.instance.as_ref())
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
    }

    /// Whether nothing is written of it.
    pub(super) fn is_nothing(&self) -> bool {
        self.written == EpochValue::default()
            && self.target == TargetValue::default()
            && self.members.is_empty()
            && self.targets.is_empty()
            && self.patterns.is_empty()
    }

    /// Whether it has no members.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How long a member may be silent that comes now, out of what is usual. While the group changes, and for a while after
    /// that, members come often, the less so the more they are.
    fn interval_ms(&self, now_ms: i64, usual_ms: i32) -> i32 {
        let often_ms = i32::try_from(self.members.len()).unwrap_or(i32::MAX);
        let often_ms = often_ms.saturating_mul(RESTLESS_MS_EACH).max(RESTLESS_MS_MIN);
        match now_ms < self.restless_until_ms {
            true => usual_ms.min(often_ms),
            false => usual_ms,
        }
    }

    pub(super) fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.written.epoch > self.target.epoch {
            ConsumerState::Assigning
        } else if self.members.values().all(|m| m.has_reached(self.target.epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    /// Everything that is written of it.
    fn parts(&self) -> impl Iterator<Item = (Part, ConsumerValue)> {
        let members = self.members.iter().map(|(id, member)| {
            let value = ConsumerValue::Member(member.wants.clone());
            (Part::Member(id.clone()), value)
        });
        let group = (self.written != EpochValue::default())
            .then_some((Part::Group, ConsumerValue::Group(self.written)));
        let patterns = self.patterns.iter().map(|(pattern, value)| {
            let value = ConsumerValue::Pattern(PatternValue::clone(value));
            (Part::Pattern(pattern.clone()), value)
        });
        let targets = self.targets.iter().map(|(id, partitions)| {
            let value = ConsumerValue::TargetOf(Partitions::clone(partitions));
            (Part::TargetOf(id.clone()), value)
        });
        let target = (self.target != TargetValue::default())
            .then_some((Part::Target, ConsumerValue::Target(self.target)));
        let current = self.members.iter().filter_map(|(id, member)| {
            let value = ConsumerValue::Current(member.has.clone());
            (member.has != CurrentValue::default()).then(|| (Part::Current(id.clone()), value))
        });
        members
            .chain(group)
            .chain(patterns)
            .chain(targets)
            .chain(target)
            .chain(current)
    }

    /// Every record that makes it.
    pub(super) fn live_records(&self, group: &Arc<str>) -> impl Iterator<Item = Record> {
        self.parts().map(|(part, value)| record(group, part, Some(value)))
    }

    /// How many records [`ConsumerGroup::live_records`] has.
    pub(super) fn live_record_count(&self) -> usize {
        let current = self.members.values().filter(|m| m.has != CurrentValue::default());
        self.members.len()
            + current.count()
            + usize::from(self.written != EpochValue::default())
            + usize::from(self.target != TargetValue::default())
            + self.targets.len()
            + self.patterns.len()
    }

    /// Records that say that all of it is gone, in the order in which Kafka can read them.
    pub(super) fn bury(&self, group: &Arc<str>, records: &mut Vec<Record>) {
        let mut parts: Vec<Part> = self.members.keys().cloned().map(Part::Current).collect();
        parts.extend(self.targets.keys().cloned().map(Part::TargetOf));
        parts.push(Part::Target);
        parts.extend(self.members.keys().cloned().map(Part::Member));
        parts.extend(self.patterns.keys().cloned().map(Part::Pattern));
        parts.push(Part::Group);
        records.extend(parts.into_iter().map(|part| record(group, part, None)));
    }

    /// Names of topics that somebody wants.
    fn subscribed_topics(&self) -> BTreeSet<&Arc<str>> {
        self.members
            .values()
            .flat_map(|member| self.topics_of(member))
            .collect()
    }

    /// Names of topics that a member wants. A pattern that is not resolved means none.
    fn topics_of<'a>(&'a self, member: &'a ConsumerMember) -> impl Iterator<Item = &'a Arc<str>> {
        let pattern = member.wants.pattern.as_ref();
        let meant = pattern.and_then(|pattern| self.patterns.get(pattern));
        member
            .wants
            .topics
            .iter()
            .chain(meant.into_iter().flat_map(|meant| &meant.topics))
    }
}

/// A group as it will be when the records in here are replayed.
struct Draft<'a> {
    id: &'a Arc<str>,
    group: Cow<'a, ConsumerGroup>,
    topics: &'a Topics,
    config: &'a ConsumerConfig,
    /// Another assignment is not made before the last one is so old.
    assignment_interval_ms: i64,
    now_ms: i64,
    records: Vec<Record>,
}

impl<'a> Draft<'a> {
    /// Of a group in `groups`, as it is now or as `group` says.
    fn new(groups: &'a Groups, id: &'a Arc<str>, group: Cow<'a, ConsumerGroup>, now_ms: i64) -> Self {
        Self {
            id,
            group,
            topics: &groups.topics,
            config: &groups.config.consumer,
            assignment_interval_ms: i64::from(groups.times(id).assignment_interval_ms),
            now_ms,
            records: Vec::new(),
        }
    }

    /// Writes what is so from now on; for none, what is gone.
    fn write(&mut self, part: Part, value: Option<ConsumerValue>) {
        self.group.to_mut().replay(&part, value.as_ref());
        self.records.push(record(self.id, part, value));
    }

    fn member(&self, id: &str) -> Option<&Arc<ConsumerMember>> {
        self.group.members.get(id)
    }
}

fn record(group: &Arc<str>, part: Part, value: Option<ConsumerValue>) -> Record {
    let group = group.clone();
    Record {
        key: Key::Consumer(ConsumerKey { group, part }),
        value: value.map(Value::Consumer),
    }
}

/// How often members come while their group changes: so many milliseconds for each of them, and at least so many in all.
const RESTLESS_MS_EACH: i32 = 2;
const RESTLESS_MS_MIN: i32 = 100;

#[cfg(test)]
mod tests;
