//! Deadlines of all groups, the next one first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happens at a deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A member gave no sign of life.
    Session(Arc<str>),
    /// A client was given a member id and did not come back with it.
    Pending(Arc<str>),
    /// The first rebalance of a group waited long enough.
    Initial {
        /// How much longer it may wait if more members come, in milliseconds.
        remaining_ms: i64,
    },
    /// A rebalance waited long enough for members to join.
    Join,
    /// Members had time enough to fetch their assignment.
    Sync,
    /// A member had time enough to give back what it has to, in this epoch of its own.
    Revocation(Arc<str>, i32),
    /// A member of the classic protocol in a group of KIP-848 had time enough to join again.
    Rejoin(Arc<str>),
    /// A member of the classic protocol in a group of KIP-848 had time enough to fetch its assignment.
    Resync(Arc<str>),
    /// The group changed its protocol, so its members need sessions of the new one. At once, but not before the records
    /// are replayed that say so.
    Converted,
}

impl Timer {
    /// What distinguishes timers of one group; the remaining time does not.
    fn slot(&self) -> Slot {
        match self {
            Self::Session(member) => Slot::Session(member.clone()),
            Self::Pending(member) => Slot::Pending(member.clone()),
            Self::Initial { .. } | Self::Join => Slot::Join,
            Self::Sync => Slot::Sync,
            Self::Revocation(member, _) => Slot::Revocation(member.clone()),
            Self::Rejoin(member) => Slot::Rejoin(member.clone()),
            Self::Resync(member) => Slot::Resync(member.clone()),
            Self::Converted => Slot::Converted,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Session(Arc<str>),
    Pending(Arc<str>),
    Join,
    Sync,
    Revocation(Arc<str>),
    Rejoin(Arc<str>),
    Resync(Arc<str>),
    Converted,
}

/// The deadlines.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(i64, Arc<str>, Timer)>,
    set: BTreeMap<Arc<str>, BTreeMap<Slot, (i64, Timer)>>,
}

impl Timers {
    /// Sets a timer; one that was set for the same is replaced.
    pub(super) fn set(&mut self, group: &Arc<str>, timer: Timer, at_ms: i64) {
        let slot = timer.slot();
        let timers = self.set.entry(group.clone()).or_default();
        if let Some((old_ms, old)) = timers.insert(slot, (at_ms, timer.clone())) {
            self.queue.remove(&(old_ms, group.clone(), old));
        }
        self.queue.insert((at_ms, group.clone(), timer));
    }

    /// Sets a timer, unless one is set for the same.
    pub(super) fn set_if_absent(&mut self, group: &Arc<str>, timer: Timer, at_ms: i64) {
        let slots = self.set.get(group);
        if slots.is_none_or(|slots| !slots.contains_key(&timer.slot())) {
            self.set(group, timer, at_ms);
        }
    }

    /// Takes a timer back, if it is set.
    pub(super) fn cancel(&mut self, group: &Arc<str>, timer: &Timer) {
        let Some(timers) = self.set.get_mut(group) else {
            return;
        };
        if let Some((at_ms, old)) = timers.remove(&timer.slot()) {
            self.queue.remove(&(at_ms, group.clone(), old));
        }
        if timers.is_empty() {
            self.set.remove(group);
        }
    }

    /// Takes all timers of a group back but for the one that sees to it that its members get others.
    pub(super) fn cancel_group(&mut self, group: &str) {
        let Some((group, timers)) = self.set.remove_entry(group) else {
            return;
        };
        for (slot, (at_ms, timer)) in timers {
            if slot == Slot::Converted {
                let kept = BTreeMap::from([(slot, (at_ms, timer))]);
                self.set.insert(group.clone(), kept);
            } else {
                self.queue.remove(&(at_ms, group.clone(), timer));
            }
        }
    }

    /// Takes all timers of a member of a group of KIP-848 back.
    pub(super) fn cancel_member(&mut self, group: &Arc<str>, member: &Arc<str>) {
        let timers = [
            Timer::Session(member.clone()),
            Timer::Revocation(member.clone(), 0),
            Timer::Rejoin(member.clone()),
            Timer::Resync(member.clone()),
        ];
        for timer in &timers {
            self.cancel(group, timer);
        }
    }

    /// Whether a group's first rebalance still waits for more members.
    pub(super) fn is_initial(&self, group: &str) -> bool {
        let join = self.set.get(group).and_then(|timers| timers.get(&Slot::Join));
        join.is_some_and(|(_, timer)| matches!(timer, Timer::Initial { .. }))
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<i64> {
        self.queue.first().map(|(at_ms, ..)| *at_ms)
    }

    /// A timer whose deadline has come.
    pub(super) fn pop_due(&mut self, now_ms: i64) -> Option<(Arc<str>, Timer)> {
        if self.next()? > now_ms {
            return None;
        }
        let (_, group, timer) = self.queue.pop_first()?;
        if let Some(timers) = self.set.get_mut(&group) {
            timers.remove(&timer.slot());
            if timers.is_empty() {
                self.set.remove(&group);
            }
        }
        Some((group, timer))
    }

    /// Whether a member's session is limited.
    #[cfg(test)]
    pub(super) fn has_session(&self, group: &str, member: &Arc<str>) -> bool {
        self.set
            .get(group)
            .is_some_and(|timers| timers.contains_key(&Slot::Session(member.clone())))
    }
}
