//! The replication of one partition, as its leader decides it: what is safe, who is in sync, where logs part.
//!
//! [`Leader`] is told what happens (records were appended, synced, acknowledged by a follower, time passed, the image
//! changed) and says what follows: the high watermark moved, other in-sync replicas are to be proposed to the
//! controller. It knows no log, no network and no clock. [`leader_answer`] compares a follower's log with the leader's.
//!
//! # The rules
//! * The high watermark is the least of what those who count have on their disks. Who is in the committed in-sync
//!   replicas counts, and who may be in them by now: everybody in a proposal whose fate is not known (KIP-497).
//! * It never goes back within a term, and does not move while fewer than `min_insync` replicas are in sync (KIP-966).
//! * Who is proposed as a member holds everything below the high watermark, and everything that the leader held when
//!   its term began: among that may be what an earlier leader acknowledged (KIP-279).
//! * Logs are compared by leader epochs, never by high watermarks (KIP-101).

mod handshake;
mod leader;
#[cfg(test)]
mod tests;

pub use handshake::{Handshake, leader_answer};
pub use leader::{FollowerView, Leader};

use crate::ids::{BrokerId, LeaderEpoch};

/// What the image says about a partition that this broker leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The epoch that it leads in.
    pub epoch: LeaderEpoch,
    /// The entry's epoch: proposals name it, and are refused once it is another one.
    pub partition_epoch: i32,
    /// Who holds the partition.
    pub replicas: Vec<BrokerId>,
    /// Who is in sync.
    pub isr: Vec<BrokerId>,
    /// How many must be in sync for anything to become safe.
    pub min_insync: usize,
}

/// What follows from an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Effects {
    /// The high watermark moved.
    pub high_moved: bool,
    /// To be proposed to the controller. Whatever becomes of it is to be told to the leader.
    pub proposal: Option<Proposal>,
}

/// Other in-sync replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who is in sync from now on.
    pub isr: Vec<BrokerId>,
    /// The entry that it changes.
    pub partition_epoch: i32,
}
