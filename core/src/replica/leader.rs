//! The leader of a partition.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effects, Proposal, Term};
use crate::ids::{BrokerId, LeaderEpoch, Offset};
use crate::mutation::{Mutation, is_on};

/// What the leader of a partition knows in one term.
#[derive(Debug, Clone)]
pub struct Leader {
    me: BrokerId,
    term: Term,
    waits_for_disk: bool,
    log_end: Offset,
    flushed: Offset,
    high: Offset,
    /// The log end at the beginning of the term: an earlier leader may have acknowledged all up to here.
    began_at: Offset,
    followers: BTreeMap<BrokerId, Follower>,
    /// Proposed, and not yet known to be accepted or refused.
    pending: Option<Proposal>,
    /// Members of proposals whose fate is not known: they count until the entry is another one.
    doubted: BTreeSet<BrokerId>,
    /// The last proposal came to nothing: the next one waits for a tick, however often followers acknowledge.
    holds_back: bool,
    /// The latest time that it was told, in milliseconds.
    now_ms: i64,
}

#[derive(Debug, Clone)]
struct Follower {
    durable_end: Offset,
    /// Whether it said in this term what it holds, and is connected still.
    is_here: bool,
    /// When it last held all that the leader had, in milliseconds.
    caught_up_ms: i64,
    /// The leader's log end when it was last heard of, and when that was: holding that much is to have caught up then.
    heard: (Offset, i64),
}

/// How far a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerView {
    /// The follower.
    pub id: BrokerId,
    /// All before this is on its disk.
    pub durable_end: Offset,
    /// Whether it is one of the committed in-sync replicas.
    pub in_sync: bool,
    /// Offsets that it lacks.
    pub lag: i64,
    /// How long ago it held all that the leader had, in milliseconds.
    pub lag_ms: i64,
}

impl Leader {
    /// Begins a term with a log that ends at `log_end`, is on the disk up to `flushed`, and of which everything before
    /// `known_high` is safe, as far as this broker heard. `waits_for_disk`: whether a record counts only once it is on
    /// the disk.
    pub fn new(
        me: BrokerId,
        term: Term,
        waits_for_disk: bool,
        log_end: Offset,
        flushed: Offset,
        known_high: Offset,
        now_ms: i64,
    ) -> Self {
        let mut leader = Self {
            me,
            term,
            waits_for_disk,
            log_end,
            flushed,
            high: known_high.min(log_end),
            began_at: log_end,
            followers: BTreeMap::new(),
            pending: None,
            doubted: BTreeSet::new(),
            holds_back: false,
            now_ms,
        };
        leader.know_replicas();
        leader.advance();
        leader
    }

    /// Everything before this is safe and may be read.
    pub fn high_watermark(&self) -> Offset {
        self.high
    }

    /// The epoch that it leads in.
    pub fn epoch(&self) -> LeaderEpoch {
        self.term.epoch
    }

    /// The in-sync replicas, as committed.
    pub fn isr(&self) -> &[BrokerId] {
        &self.term.isr
    }

    /// The entry of the image that it knows.
    pub fn partition_epoch(&self) -> i32 {
        self.term.partition_epoch
    }

    /// Whether enough replicas are in sync for anything to become safe.
    pub fn has_enough_in_sync(&self) -> bool {
        self.term.isr.len() >= self.term.min_insync
    }

    /// Whether the high watermark has reached the log end at the beginning of the term (KIP-207). Before that, it may
    /// lie before what an earlier leader acknowledged and showed to readers.
    pub fn is_established(&self) -> bool {
        self.high >= self.began_at
    }

    /// Who has to hold a record before it is safe: the in-sync replicas, and who may be one by now.
    pub fn counted(&self) -> BTreeSet<BrokerId> {
        let pending = self.pending.iter().filter(|_| !is_on(Mutation::IgnoreProposed));
        let proposed = pending.flat_map(|proposal| &proposal.isr);
        let committed = self.term.isr.iter().chain(proposed);
        committed.chain(&self.doubted).copied().collect()
    }

    /// The log ends at `log_end` now. True if the high watermark moved.
    pub fn appended(&mut self, log_end: Offset) -> bool {
        self.log_end = log_end;
        self.advance()
    }

    /// The log is on the disk up to `flushed` now. True if the high watermark moved.
    pub fn flushed(&mut self, flushed: Offset) -> bool {
        self.flushed = flushed;
        self.advance()
    }

    /// Whether a record counts only once it is on this broker's disk. True if the high watermark moved.
    pub fn wait_for_disk(&mut self, waits_for_disk: bool) -> bool {
        self.waits_for_disk = waits_for_disk;
        self.advance()
    }

    /// A follower holds everything before `durable_end`: on its disk, or in its log where the topic does not wait for
    /// disks. It may be less than before, if its disk was lost.
    pub fn acknowledged(&mut self, follower: BrokerId, durable_end: Offset, now_ms: i64) -> Effects {
        self.now_ms = self.now_ms.max(now_ms);
        let (log_end, now_ms) = (self.log_end, self.now_ms);
        let Some(known) = self.followers.get_mut(&follower) else {
            return Effects::default();
        };
        known.durable_end = durable_end;
        known.is_here = true;
        if durable_end >= log_end {
            known.caught_up_ms = now_ms;
        } else if durable_end >= known.heard.0 {
            known.caught_up_ms = known.caught_up_ms.max(known.heard.1);
        }
        known.heard = (log_end, now_ms);
        Effects {
            high_moved: self.advance(),
            proposal: self.grow(),
        }
    }

    /// A follower's connection ended: it is not proposed as a member until it is heard of again.
    pub fn disconnected(&mut self, follower: BrokerId) {
        if let Some(follower) = self.followers.get_mut(&follower) {
            follower.is_here = false;
        }
    }

    /// Time has passed: who has not held in `lag_ms_max` what the leader had is no longer in sync. To be called several
    /// times in that span.
    pub fn tick(&mut self, now_ms: i64, lag_ms_max: i64) -> Effects {
        self.now_ms = self.now_ms.max(now_ms);
        self.holds_back = false;
        let (log_end, now_ms) = (self.log_end, self.now_ms);
        for follower in self.followers.values_mut() {
            if follower.durable_end >= log_end {
                follower.caught_up_ms = now_ms;
            }
        }
        let mut isr = self.term.isr.clone();
        isr.retain(|id| {
            let follower = self.followers.get(id);
            follower.is_none_or(|f| now_ms.saturating_sub(f.caught_up_ms) <= lag_ms_max)
        });
        let shrinks = isr.len() < self.term.isr.len();
        isr.extend(self.newcomers());
        // A change that changes nothing makes sure that what is in doubt never happens.
        let proposal = if shrinks || !self.doubted.is_empty() || isr.len() > self.term.isr.len() {
            self.propose(isr)
        } else {
            None
        };
        Effects {
            high_moved: false,
            proposal,
        }
    }

    /// The image has another entry for the same term.
    pub fn changed(&mut self, term: Term) -> Effects {
        debug_assert_eq!(term.epoch, self.term.epoch, "another epoch is another term");
        if term.partition_epoch < self.term.partition_epoch {
            return Effects::default();
        }
        if term.partition_epoch > self.term.partition_epoch {
            // Whatever was proposed named an older entry: it is accepted by now or never will be.
            self.pending = None;
            self.doubted.clear();
            self.holds_back = false;
        }
        self.term = term;
        self.know_replicas();
        Effects {
            high_moved: self.advance(),
            proposal: self.grow(),
        }
    }

    /// It is not known what became of the proposal that named `partition_epoch`: it may still be accepted. Its members
    /// count until the entry is another one, which the next tick sees
    /// to.
    pub fn proposal_failed(&mut self, partition_epoch: i32) {
        if let Some(proposal) = self.end_proposal(partition_epoch) {
            self.doubted.extend(proposal.isr);
        }
    }

    /// The proposal that named `partition_epoch` was refused and will never be accepted. True if the high watermark
    /// moved, since who was proposed no longer counts.
    pub fn proposal_refused(&mut self, partition_epoch: i32) -> bool {
        self.end_proposal(partition_epoch).is_some() && self.advance()
    }

    /// The followers, by id.
    pub fn followers(&self, now_ms: i64) -> impl Iterator<Item = FollowerView> + '_ {
        self.followers.iter().map(move |(id, follower)| FollowerView {
            id: *id,
            durable_end: follower.durable_end,
            in_sync: self.term.isr.contains(id),
            lag: self.log_end.since(follower.durable_end).max(0),
            lag_ms: match follower.durable_end >= self.log_end {
                true => 0,
                false => now_ms.saturating_sub(follower.caught_up_ms).max(0),
            },
        })
    }

    fn end_proposal(&mut self, partition_epoch: i32) -> Option<Proposal> {
        let ended = self.pending.take_if(|p| p.partition_epoch == partition_epoch);
        self.holds_back |= ended.is_some();
        ended
    }

    fn know_replicas(&mut self) {
        let (me, now_ms, log_end) = (self.me, self.now_ms, self.log_end);
        let replicas = &self.term.replicas;
        self.followers.retain(|id, _| replicas.contains(id));
        for id in replicas.iter().filter(|id| **id != me) {
            self.followers.entry(*id).or_insert(Follower {
                durable_end: Offset::ZERO,
                is_here: false,
                caught_up_ms: now_ms,
                heard: (log_end, now_ms),
            });
        }
    }

    /// What this broker itself holds safely.
    fn own_end(&self) -> Offset {
        match self.waits_for_disk && !is_on(Mutation::CountUnsynced) {
            true => self.flushed.min(self.log_end),
            false => self.log_end,
        }
    }

    fn advance(&mut self) -> bool {
        // As a rule this broker has to catch up itself: nothing more is looked at then.
        if self.own_end() <= self.high {
            return false;
        }
        if !self.has_enough_in_sync() && !is_on(Mutation::TooFewInSync) {
            return false;
        }
        let held = |id: &BrokerId| self.followers.get(id).map_or(Offset::ZERO, |f| f.durable_end);
        let counts = |id: &BrokerId| *id != self.me && !is_on(Mutation::HighWithoutFollowers);
        let others = self.counted().into_iter().filter(counts);
        let least = others.map(|id| held(&id)).fold(self.own_end(), Offset::min);
        let moved = least > self.high;
        self.high = self.high.max(least);
        moved
    }

    /// Who may become a member: holds all that is safe, and all that was there when the term began.
    fn newcomers(&self) -> Vec<BrokerId> {
        let needed = match () {
            () if is_on(Mutation::JoinBehind) => Offset::ZERO,
            () if is_on(Mutation::JoinAtOldHigh) => self.high,
            () => self.high.max(self.began_at),
        };
        let may = |id: &&BrokerId| {
            let follower = self.followers.get(id);
            !self.term.isr.contains(id) && follower.is_some_and(|f| f.is_here && f.durable_end >= needed)
        };
        self.term.replicas.iter().filter(may).copied().collect()
    }

    fn grow(&mut self) -> Option<Proposal> {
        let newcomers = self.newcomers();
        if newcomers.is_empty() || self.holds_back {
            return None;
        }
        let isr = self.term.isr.iter().copied().chain(newcomers).collect();
        self.propose(isr)
    }

    /// One proposal is under way at a time.
    fn propose(&mut self, isr: Vec<BrokerId>) -> Option<Proposal> {
        if self.pending.is_some() {
            return None;
        }
        let partition_epoch = self.term.partition_epoch;
        self.pending = Some(Proposal { isr, partition_epoch });
        self.pending.clone()
    }
}
