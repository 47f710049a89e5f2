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
    /// How long a leader may be silent before voters give it up, in milliseconds: a few heartbeats. They stand one
    /// after the other, a sixth of that apart. A leader that is known to be gone is replaced at once.
    pub election_ms: u64,
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
            election_ms: 500,
            snapshot_after: 5000,
            inline_disk: false,
        }
    }

    /// How long openraft lets nobody win who stands, after a leader was heard. It holds for those too who know that the
    /// leader is gone, so it is as short as a heartbeat that is late allows.
    pub(crate) fn lease_ms(&self) -> u64 {
        self.heartbeat_ms + (self.heartbeat_ms / 2).max(2)
    }

    pub(crate) fn to_raft(&self) -> Result<Arc<Config>, QuorumError> {
        if self.election_ms <= self.lease_ms() {
            return Err(QuorumError::Config(format!(
                "an election timeout of {} ms is too short for a heartbeat every {} ms",
                self.election_ms, self.heartbeat_ms
            )));
        }
        let config = Config {
            cluster_name: "millstream".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            // Voters stand when `Patience` says so. What is left of this is openraft's lease, which is the upper bound.
            enable_elect: false,
            election_timeout_min: self.lease_ms() - 1,
            election_timeout_max: self.lease_ms(),
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
