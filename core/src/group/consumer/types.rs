//! What goes in and comes out.

use std::fmt;
use std::sync::Arc;

use super::record::{MemberState, Partitions};
use crate::ids::{PartitionIndex, TopicId};

/// Which groups with members may change their protocol. Those without may always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Migration {
    /// Both ways.
    #[default]
    Bidirectional,
    /// From the classic protocol to KIP-848.
    Upgrade,
    /// From KIP-848 to the classic protocol.
    Downgrade,
    /// None.
    Disabled,
}

impl Migration {
    /// Kafka's name of the policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        }
    }

    /// The policy of this name, in whatever case, as Kafka takes it.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Bidirectional,
            Self::Upgrade,
            Self::Downgrade,
            Self::Disabled,
        ];
        all.into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(name))
    }

    pub(super) fn may_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(super) fn may_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// ConsumerGroupHeartbeat: a client joins, says what it has and wants, or leaves. What did not change since its last
/// heartbeat may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// Group.
    pub group: String,
    /// Member id; the client chooses it, except in version 0.
    pub member: String,
    /// The epoch that the member knows; [`JOIN_EPOCH`], [`LEAVE_EPOCH`] and [`PAUSE_EPOCH`] say more.
    pub epoch: i32,
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Where the client runs.
    pub rack: Option<String>,
    /// Client id, for people.
    pub client_id: String,
    /// Address, for people.
    pub client_host: String,
    /// How long it may take to give partitions back, in milliseconds; -1 if not said.
    pub rebalance_timeout_ms: i32,
    /// Names of topics that it wants.
    pub topics: Option<Vec<String>>,
    /// Regular expression for the names of topics that it wants; an empty one means that it wants none so any more.
    pub pattern: Option<String>,
    /// Assignor that it prefers.
    pub assignor: Option<String>,
    /// Partitions that it has.
    pub owned: Option<Vec<(TopicId, Vec<PartitionIndex>)>>,
    /// Random text, the id of a member that brings none (version 0).
    pub unique: String,
}

/// Answer to ConsumerGroupHeartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerAnswer {
    /// The member's id.
    pub member: String,
    /// Its epoch from now on.
    pub epoch: i32,
    /// When it shall send its next heartbeat, in milliseconds from now; 0 for one that left.
    pub heartbeat_interval_ms: i32,
    /// All that it may consume, if it has to be told.
    pub assignment: Option<Partitions>,
}

/// What a group that follows KIP-848 is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsumerState {
    /// No members; perhaps offsets.
    Empty,
    /// It has to be found out what members shall have.
    Assigning,
    /// Members do not have yet what they shall have.
    Reconciling,
    /// Members have what they shall have.
    Stable,
}

impl ConsumerState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

impl fmt::Display for ConsumerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group as ConsumerGroupDescribe tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Its state.
    pub state: ConsumerState,
    /// Counts the changes of members, subscriptions and topics.
    pub epoch: i32,
    /// The epoch that the target assignment was made for.
    pub target_epoch: i32,
    /// The assignor that makes it.
    pub assignor: &'static str,
    /// Its members, by id.
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member as ConsumerGroupDescribe tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member: Arc<str>,
    /// Its instance id.
    pub instance: Option<String>,
    /// Where it runs.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// Client id.
    pub client_id: String,
    /// Address.
    pub client_host: String,
    /// Names of topics that it wants.
    pub topics: Vec<Arc<str>>,
    /// Regular expression for the names of topics that it wants.
    pub pattern: Option<Arc<str>>,
    /// How far it is on the way to its target.
    pub state: MemberState,
    /// What it may consume. Topics that are gone are left out.
    pub assigned: Vec<AssignedTopic>,
    /// What it shall have.
    pub target: Vec<AssignedTopic>,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedTopic {
    /// The topic's id.
    pub id: TopicId,
    /// The topic's name.
    pub name: Arc<str>,
    /// Which of its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// Epoch of a client that joins.
pub const JOIN_EPOCH: i32 = 0;
/// Epoch of a member that leaves for good.
pub const LEAVE_EPOCH: i32 = -1;
/// Epoch of a static member that leaves to come back within its session timeout.
pub const PAUSE_EPOCH: i32 = -2;
