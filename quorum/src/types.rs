//! What openraft has to know of this quorum, and shorter names for its types.

use std::io::Cursor;
use std::sync::Arc;

use millstream_core::cluster::{Command, Outcome, Refusal};
use serde::{Deserialize, Serialize};

use crate::runtime::SeededRuntime;

openraft::declare_raft_types!(
    /// The types of this quorum's log: commands of the cluster, and what became of them.
    pub Types:
        D = Arc<Command>,
        R = Applied,
        NodeId = u64,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = SeededRuntime,
);

/// What became of a command that the quorum has agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The image's version after the command: whoever holds this or a later one sees what it did.
    pub version: u64,
    /// What it did, or why it was refused. A refusal is an answer that all nodes agree on, not a failure.
    pub outcome: Result<Outcome, Refusal>,
}

pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Membership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
