//! The group's epoch, the topics that its members mean, and who shall have which partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::assignor::{Assignor, Problem, Subscriber};
use super::pattern::Pattern;
use super::record::{ConsumerKey, ConsumerValue, EpochValue, Part, Partitions, PatternValue, TargetValue};
use super::{ConsumerGroup, Draft};
use crate::group::{Event, GroupError, Key, Record};
use crate::ids::TopicId;

impl Draft<'_> {
    /// Begins another epoch if `something_changed`, or if the topics that members mean did. Then decides anew who shall
    /// have what.
    pub(super) fn keep_up(&mut self, something_changed: bool) {
        if !something_changed && self.is_settled() {
            return;
        }
        let something_changed = self.refresh_patterns() || something_changed;
        let metadata_hash = self.topics.hash(self.group.subscribed_topics());
        let written = self.group.written;
        if something_changed || metadata_hash != written.metadata_hash || written.epoch == 0 {
            self.next_epoch(metadata_hash);
        }
        if self.group.written.epoch > self.group.target.epoch && self.may_assign() {
            self.assign();
        }
    }

    /// Whether the last assignment is old enough for another one (KIP-1263). A member that is alone need not wait, and one
    /// of the classic protocol cannot: it would join over and over.
    fn may_assign(&self) -> bool {
        let members = &self.group.members;
        // A clock that was set back is no reason to wait.
        let age_ms = self.now_ms - self.group.target.made_ms;
        !(0..self.assignment_interval_ms).contains(&age_ms)
            || members.len() <= 1
            || members.values().any(|member| member.wants.classic.is_some())
    }

    /// Whether nothing changed since it was seen that nothing had to be done.
    fn is_settled(&self) -> bool {
        self.group.settled_at == Some(self.topics.version())
    }

    /// Whether there is nothing to be done, so that it need not be looked at again before something changes.
    pub(super) fn has_settled(&self) -> bool {
        self.records.is_empty() && self.group.written.epoch <= self.group.target.epoch
    }

    /// Begins another epoch, in which all is decided anew once somebody asks.
    pub(super) fn next_epoch(&mut self, metadata_hash: i64) {
        let value = EpochValue {
            epoch: self.group.written.epoch.checked_add(1).unwrap_or(1),
            metadata_hash,
        };
        self.write(Part::Group, Some(ConsumerValue::Group(value)));
    }

    /// Resolves a pattern that is new or older than the topics. True if it means other topics now.
    ///
    /// # Errors
    /// It is no regular expression.
    pub(super) fn resolve(&mut self, pattern: &Arc<str>) -> Result<bool, GroupError> {
        if self.is_resolved(pattern) {
            return Ok(false);
        }
        let topics = self.topics.matching(&Pattern::new(pattern)?);
        Ok(self.write_pattern(pattern, topics))
    }

    /// Resolves patterns that are older than the topics, some of them with each heartbeat. True if any of them means
    /// other topics now.
    fn refresh_patterns(&mut self) -> bool {
        let old: Vec<Arc<str>> = self.group.patterns.keys().cloned().collect();
        let old = old.iter().filter(|pattern| !self.is_resolved(pattern));
        let old: Vec<_> = old.take(PATTERNS_AT_ONCE_MAX).cloned().collect();
        let mut changed = false;
        for pattern in old {
            // What the log has and cannot be compiled means nothing.
            let compiled = Pattern::new(&pattern).ok();
            let topics = compiled.map(|compiled| self.topics.matching(&compiled));
            changed |= self.write_pattern(&pattern, topics.unwrap_or_default());
        }
        changed
    }

    fn is_resolved(&self, pattern: &Arc<str>) -> bool {
        let known = self.group.patterns.get(pattern);
        known.is_some_and(|known| known.version == self.topics.version() as i64)
    }

    fn write_pattern(&mut self, pattern: &Arc<str>, topics: BTreeSet<Arc<str>>) -> bool {
        let known = self.group.patterns.get(pattern);
        let changed = known.map_or(!topics.is_empty(), |known| known.topics != topics);
        let value = PatternValue {
            topics,
            version: self.topics.version() as i64,
            resolved_ms: self.now_ms,
        };
        self.write(
            Part::Pattern(pattern.clone()),
            Some(ConsumerValue::Pattern(value)),
        );
        changed
    }

    /// Forgets a pattern that no member has any more.
    pub(super) fn forget_pattern(&mut self, pattern: Option<&Arc<str>>) {
        let Some(pattern) = pattern.filter(|pattern| self.group.patterns.contains_key(*pattern)) else {
            return;
        };
        let mut wanted = self.group.members.values().map(|m| m.wants.pattern.as_ref());
        if !wanted.any(|other| other == Some(pattern)) {
            self.write(Part::Pattern(pattern.clone()), None);
        }
    }

    /// What happened with the records of the draft; `joins` says that a client became a member.
    pub(super) fn events(&self, joins: bool) -> Vec<Event> {
        let is_target = |record: &Record| match &record.key {
            Key::Consumer(ConsumerKey { part, .. }) => *part == Part::Target && record.value.is_some(),
            Key::Offset { .. } | Key::Group { .. } => false,
        };
        let joined = joins.then_some(Event::Joined);
        let rebalances = self.records.iter().filter(|record| is_target(record));
        joined
            .into_iter()
            .chain(rebalances.map(|_| Event::ConsumerRebalance))
            .collect()
    }

    /// Decides who shall have what in the group's epoch, and writes what is new.
    fn assign(&mut self) {
        let assigned = self.group.preferred_assignor(&self.config.assignors);
        let assigned = assigned.assign(&self.problem());
        for (id, partitions) in assigned {
            let before = self.group.targets.get(&id);
            if before.is_none_or(|before| **before != partitions) {
                self.write(Part::TargetOf(id), Some(ConsumerValue::TargetOf(partitions)));
            }
        }
        let value = TargetValue {
            epoch: self.group.written.epoch,
            made_ms: self.now_ms,
        };
        self.write(Part::Target, Some(ConsumerValue::Target(value)));
    }

    fn problem(&self) -> Problem {
        let mut topics: BTreeMap<TopicId, i32> = BTreeMap::new();
        let members = self.group.members.iter().map(|(id, member)| {
            let mut subscriber = Subscriber {
                instance: member.wants.instance.clone(),
                ..Subscriber::default()
            };
            for name in self.group.topics_of(member) {
                if let Some(facts) = self.topics.find(name) {
                    topics.insert(facts.id, facts.partitions);
                    subscriber.topics.insert(facts.id);
                }
            }
            if let Some(before) = self.group.targets.get(id) {
                subscriber.before = Partitions::clone(before);
            }
            (id.clone(), subscriber)
        });
        let members = members.collect();
        Problem { members, topics }
    }
}

impl ConsumerGroup {
    /// Out of these assignors the one that most members prefer; on a tie and without any preference the first of them.
    ///
    /// # Panics
    /// There are none.
    pub(super) fn preferred_assignor(&self, assignors: &[Assignor]) -> Assignor {
        let votes = |assignor: Assignor| {
            let wanted = self.members.values().map(|m| m.wants.assignor.as_deref());
            wanted.filter(|wanted| *wanted == Some(assignor.name())).count()
        };
        let best = |best, other| if votes(other) > votes(best) { other } else { best };
        let preferred = assignors.iter().copied().reduce(best);
        preferred.expect("a broker has an assignor")
    }
}

/// Most patterns that one heartbeat resolves beside its own.
const PATTERNS_AT_ONCE_MAX: usize = 16;
