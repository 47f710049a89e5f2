//! Partitions: who holds them, who is in sync, who leads.

use serde::{Deserialize, Serialize};

use crate::ids::{BrokerId, LeaderEpoch};

/// A partition of a topic.
///
/// The leader is in `isr`, `isr` and `elr` are among `replicas` and have nobody in common. A partition without a leader
/// waits for a member of `isr` or `elr`; with both empty, nobody is left who surely holds everything that was
/// acknowledged, and only an unclean election helps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Brokers that hold it, the preferred leader first; while it moves, those that it moves to come last.
    pub replicas: Vec<BrokerId>,
    /// Those that hold everything that was acknowledged, and that the leader waits for.
    pub isr: Vec<BrokerId>,
    /// The broker that serves it.
    pub leader: Option<BrokerId>,
    /// Counts its leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this entry.
    pub partition_epoch: i32,
    /// Eligible leader replicas (KIP-966): no longer in sync, but since they left, `isr` was smaller than
    /// `min.insync.replicas`, so that nothing was acknowledged that they lack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<BrokerId>,
    /// Brokers that were in sync or eligible when their disk was lost, as long as nobody else is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<BrokerId>,
    /// The brokers that are to hold it, the preferred leader first; empty unless it moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<BrokerId>,
    /// Those of `target` that did not hold it before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<BrokerId>,
    /// Those that will no longer hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<BrokerId>,
}
