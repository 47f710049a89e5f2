//! Where two logs part.

use crate::ids::{LeaderEpoch, Offset};
use crate::mutation::{Mutation, is_on};

/// What a leader answers a follower that says how its log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The follower's log is a beginning of the leader's: it is sent what comes behind.
    Continue,
    /// Nothing from `to` on is the leader's: the follower takes it back and asks again, with what its log ends with then.
    Truncate {
        /// First offset that goes; before the end of the follower's log.
        to: Offset,
    },
    /// The leader's log begins behind the follower's: the follower drops all and begins at `at`.
    StartOver {
        /// Where the leader's log begins.
        at: Offset,
    },
}

/// Compares a follower's log with its leader's (KIP-101, KIP-279).
///
/// The follower's log ends before `log_end` with a record of `last_epoch`; -1 where it has none. `end_of` says of the
/// leader's log what `Log::offset_for_leader_epoch` does: the largest epoch up to the one asked for that it has, and where
/// that one ends. It counts an epoch without records, such as the leader's own at first, as one that begins at the end.
///
/// No record that both logs have is ever taken back: the follower may be the only other one that has it, and be elected
/// next. So where the leader knows no more than that it lacks the follower's last epoch, just the last batch goes, and
/// the follower asks again.
pub fn leader_answer(
    last_epoch: LeaderEpoch,
    log_end: Offset,
    end_of: impl Fn(LeaderEpoch) -> Option<(LeaderEpoch, Offset)>,
    leader_log_start: Offset,
) -> Handshake {
    if log_end < leader_log_start {
        return Handshake::StartOver { at: leader_log_start };
    }
    // A follower that holds nothing has nothing that could be wrong.
    let is_empty = last_epoch == LeaderEpoch::UNKNOWN || log_end == leader_log_start;
    if is_empty || is_on(Mutation::NoComparison) {
        return Handshake::Continue;
    }
    let before = |end: Offset| Handshake::Truncate {
        to: end.max(leader_log_start),
    };
    match end_of(last_epoch) {
        Some((_, end)) if end < log_end => before(end),
        Some((epoch, _)) if epoch == last_epoch => Handshake::Continue,
        _ => before(Offset(log_end.0 - 1)),
    }
}
