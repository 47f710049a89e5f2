//! How one node of the quorum runs.

use std::path::PathBuf;
use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};

use crate::error::QuorumError;

/// How one node of the quorum runs.
#[derive(Debug, Clone)]
pub struct QuorumConfig {
    /// The broker's id.
    pub me: u64,
    /// Where the log and the snapshot lie. It is made if it is not there; nothing else may write in it.
    pub directory: PathBuf,
    /// How often a leader lets its followers know that it is there, in milliseconds.
    pub heartbeat_ms: u64,
    /// Bounds of the election timeout, in milliseconds; a node draws its own between them when it starts. A silent
    /// leader is given up after the upper bound (so long nobody votes for another one) and the node's own timeout, and
    /// up to one and a half heartbeats later, for that is how often openraft looks.
    pub election_ms: (u64, u64),
    /// Number of log entries after which a snapshot is taken and the log before it purged.
    pub snapshot_after: u64,
    /// Does the work on files where it is asked for and not on threads of its own: the same order every time, which a
    /// simulator wants, but whoever else runs on that thread waits for the disk.
    pub inline_disk: bool,
}

impl QuorumConfig {
    /// The usual times for a node.
    pub fn new(me: u64, directory: PathBuf) -> Self {
        Self {
            me,
            directory,
            heartbeat_ms: 100,
            election_ms: (300, 600),
            snapshot_after: 5000,
            inline_disk: false,
        }
    }

    pub(crate) fn to_raft(&self) -> Result<Arc<Config>, QuorumError> {
        let config = Config {
            cluster_name: "millstream".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms.0,
            election_timeout_max: self.election_ms.1,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_after.max(1)),
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            install_snapshot_timeout: INSTALL_SNAPSHOT_MS_MAX,
            // Followers that are a little behind get entries, not a snapshot.
            max_in_snapshot_log_to_keep: self.snapshot_after / 2,
            replication_lag_threshold: self.snapshot_after.saturating_mul(2),
            max_payload_entries: PAYLOAD_ENTRIES_MAX,
            ..Config::default()
        };
        let config = config
            .validate()
            .map_err(|error| QuorumError::Config(error.to_string()))?;
        Ok(Arc::new(config))
    }
}

/// How much of a snapshot travels in one request.
const SNAPSHOT_CHUNK_BYTES: u64 = 1 << 20;
/// A follower has to write and sync the whole snapshot before it answers the last chunk.
const INSTALL_SNAPSHOT_MS_MAX: u64 = 10_000;
/// Most entries in one request; they are also bounded in bytes.
const PAYLOAD_ENTRIES_MAX: u64 = 300;
