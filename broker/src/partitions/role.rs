//! What a partition is on this broker, and how it becomes that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::cluster;
use millstream_core::ids::{BrokerId, LeaderEpoch, Offset};
use millstream_core::replica::{Effects, FollowerView, Leader, Proposal, Term};

use super::Partition;
use super::feeds::Feed;
use super::partition::{NotDurable, State};

/// What a partition is on this broker.
#[derive(Debug)]
pub(super) enum Role {
    /// It takes records and decides what is safe.
    Leader(Leader),
    /// It copies what its leader has.
    Follower {
        /// The leader's term.
        epoch: LeaderEpoch,
        /// The leader.
        leader: BrokerId,
    },
    /// Nobody leads, or it is not yet known who does.
    Offline,
}

impl Partition {
    /// Takes the role that the image gives it: `described` is the image's entry, `min_insync` how many copies have to be
    /// in sync for anything to be acknowledged.
    pub fn take_role(self: &Arc<Self>, described: &cluster::Partition, min_insync: usize, now_ms: i64) {
        let epoch = described.leader_epoch;
        let entry = (described.partition_epoch, min_insync);
        // Most partitions are the same in the next image.
        let mut state = self.lock();
        if state.entry.replace(entry) == Some(entry) {
            return;
        }
        state.unclean = described.unclean;
        drop(state);
        match described.leader {
            Some(leader) if leader == self.office.me => {
                let term = Term {
                    epoch,
                    partition_epoch: described.partition_epoch,
                    replicas: described.replicas.clone(),
                    isr: described.isr.clone(),
                    min_insync,
                };
                self.become_leader(term, now_ms);
            }
            Some(leader) => self.become_follower(epoch, leader),
            None => self.become_offline(epoch),
        }
    }

    /// Leads from now on, or goes on to lead under what has changed but the epoch. An epoch that is over is ignored.
    pub fn become_leader(self: &Arc<Self>, term: Term, now_ms: i64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if term.epoch < state.epoch {
            return;
        }
        let effects = match &mut state.role {
            Role::Leader(leader) if leader.epoch() == term.epoch => leader.changed(term),
            _ => {
                let high = state.watermarks().high;
                state.end_role();
                state.epoch = term.epoch;
                if term.replicas.len() > 1 {
                    // What was under way to another leader comes again, and not always in order.
                    state.expect_gaps();
                }
                state.role = Role::Leader(Leader::new(
                    self.office.me,
                    term,
                    state.waits_for_disk,
                    state.log.log_end_offset(),
                    state.log.flushed_offset(),
                    high,
                    now_ms,
                ));
                state.high_moved();
                Effects::default()
            }
        };
        self.carry_out(state, effects);
        drop(guard);
        // What was copied under another leader and is not on the disk yet counts only once it is.
        self.request_sync();
    }

    /// Follows a leader from now on. An epoch that is over is ignored.
    pub fn become_follower(&self, epoch: LeaderEpoch, leader: BrokerId) {
        let mut state = self.lock();
        let is_same =
            matches!(state.role, Role::Follower { epoch: e, leader: l } if e == epoch && l == leader);
        if epoch < state.epoch || is_same {
            return;
        }
        state.end_role();
        state.epoch = epoch;
        state.role = Role::Follower { epoch, leader };
        state.release_waiters(NotDurable::NotLeader);
        state.wake_readers();
    }

    /// Nobody leads. An epoch that is over is ignored.
    pub fn become_offline(&self, epoch: LeaderEpoch) {
        let mut state = self.lock();
        if epoch < state.epoch {
            return;
        }
        state.end_role();
        state.epoch = epoch;
        state.release_waiters(NotDurable::NotLeader);
        state.wake_readers();
    }

    /// Whether this broker leads it.
    pub fn is_leader(&self) -> bool {
        matches!(self.lock().role, Role::Leader(_))
    }

    /// The largest leader epoch that this broker has heard of; -1 before the first.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.lock().epoch
    }

    /// Whether enough replicas are in sync to acknowledge anything. False unless it leads.
    pub fn has_enough_in_sync(&self) -> bool {
        match &self.lock().role {
            Role::Leader(leader) => leader.has_enough_in_sync(),
            _ => false,
        }
    }

    /// Whether nobody waits for what was appended here to become safe.
    pub fn is_settled(&self) -> bool {
        self.lock().waiters.is_empty()
    }

    /// Whether the high watermark has reached what was in the log when the term began, so that the end of what is safe
    /// is known (KIP-207). False unless it leads.
    pub fn is_established(&self) -> bool {
        match &self.lock().role {
            Role::Leader(leader) => leader.is_established(),
            _ => false,
        }
    }

    /// The replicas that are in sync, as the image has it; none unless it leads.
    pub fn in_sync(&self) -> Vec<BrokerId> {
        match &self.lock().role {
            Role::Leader(leader) => leader.isr().to_vec(),
            _ => Vec::new(),
        }
    }

    /// How far its followers are; none unless it leads.
    pub fn followers(&self, now_ms: i64) -> Vec<FollowerView> {
        match &self.lock().role {
            Role::Leader(leader) => leader.followers(now_ms).collect(),
            _ => Vec::new(),
        }
    }

    /// Looks for members of the in-sync replicas that have fallen behind by more than `lag_ms_max`.
    pub fn tick(self: &Arc<Self>, now_ms: i64, lag_ms_max: i64) {
        let mut state = self.lock();
        if let Role::Leader(leader) = &mut state.role {
            let effects = leader.tick(now_ms, lag_ms_max);
            self.carry_out(&mut state, effects);
        }
    }

    /// Takes the other in-sync replicas that it proposes, with the epoch that it leads in.
    pub fn take_proposal(&self) -> Option<(LeaderEpoch, Proposal)> {
        let mut state = self.lock();
        let epoch = state.epoch;
        state.proposal.take().map(|proposal| (epoch, proposal))
    }

    /// It is not known what became of a proposal.
    pub fn proposal_failed(&self, epoch: LeaderEpoch, partition_epoch: i32) {
        let mut state = self.lock();
        if let Role::Leader(leader) = &mut state.role
            && leader.epoch() == epoch
        {
            leader.proposal_failed(partition_epoch);
        }
    }

    /// A proposal was refused. The next one comes after a while.
    pub fn proposal_refused(&self, epoch: LeaderEpoch, partition_epoch: i32) {
        let mut state = self.lock();
        if let Role::Leader(leader) = &mut state.role
            && leader.epoch() == epoch
        {
            let high_moved = leader.proposal_refused(partition_epoch);
            state.quiet_until = Some(Instant::now() + REFUSED_WAIT);
            if high_moved {
                state.high_moved();
            }
        }
    }

    /// Does what a leader's state asks for.
    pub(super) fn carry_out(self: &Arc<Self>, state: &mut State, effects: Effects) {
        if effects.high_moved {
            state.high_moved();
        }
        let Some(proposal) = effects.proposal else {
            return;
        };
        if state.quiet_until.is_some_and(|until| Instant::now() < until) {
            if let Role::Leader(leader) = &mut state.role
                && leader.proposal_refused(proposal.partition_epoch)
            {
                state.high_moved();
            }
            return;
        }
        let is_noted = state.proposal.replace(proposal).is_some();
        if !is_noted {
            self.office.reports.proposes(self.clone());
        }
    }

    /// Leads on in the same term with another `waits_for_disk`.
    pub(super) fn lead_on_as_configured(self: &Arc<Self>, state: &mut State) {
        let Role::Leader(leader) = &mut state.role else {
            return;
        };
        if leader.wait_for_disk(state.waits_for_disk) {
            state.high_moved();
        }
    }
}

impl State {
    /// Ends whatever it was: who is on its lines learns that when they look.
    pub fn end_role(&mut self) {
        self.high = self.watermarks().high;
        self.role = Role::Offline;
        (self.proposal, self.quiet_until) = (None, None);
        self.verifications.forget_all();
        self.leader_log_start = Offset::ZERO;
        let mut feeds = std::mem::take(&mut self.feeds);
        feeds.iter_mut().for_each(Feed::tell);
    }

    /// From now on, for a while, batches may be missing that producers send again.
    pub fn expect_gaps(&mut self) {
        self.gaps_until = Some(Instant::now() + GAPS_WAIT);
    }

    /// The high watermark of a follower: no further than its log.
    pub fn note_high(&mut self, high: Offset) {
        let known = high.min(self.log.log_end_offset());
        if known > self.high {
            self.high = known;
            self.high_moved();
        }
    }
}

/// Time after a refused proposal before the next one.
const REFUSED_WAIT: Duration = Duration::from_millis(200);
/// Time in which a batch is sent again that was refused, or that another leader has not taken: clients wait for a second
/// at most before they try again, and some for answers to others.
const GAPS_WAIT: Duration = Duration::from_secs(10);
