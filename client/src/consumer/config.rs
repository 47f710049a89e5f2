//! What a consumer is told, and what it gives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::admin::OffsetSpec;

/// Where to begin in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Earliest,
    /// After the newest record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record of this time or later, in milliseconds since 1970; at the end if there is none.
    Timestamp(i64),
}

/// What to do without a valid offset: none was committed, or it is no longer (or not yet) in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// Begin at the oldest record.
    Earliest,
    /// Begin after the newest record.
    Latest,
    /// Give the caller an error.
    Fail,
}

/// What is read of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Everything, also what may still be aborted or was.
    #[default]
    ReadUncommitted,
    /// What is committed: nothing behind the first record of a transaction that is open.
    ReadCommitted,
}

impl Isolation {
    /// Where there is nothing to read yet.
    pub(super) fn latest(self) -> OffsetSpec {
        match self {
            Self::ReadUncommitted => OffsetSpec::Latest,
            Self::ReadCommitted => OffsetSpec::LatestStable,
        }
    }
}

/// Settings of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Group to join or to commit for.
    pub group: Option<String>,
    /// Makes a member static: it may go away for a session and finds its partitions again (KIP-345).
    pub group_instance_id: Option<String>,
    /// What to do without a valid offset.
    pub offset_reset: OffsetReset,
    /// What is read of transactions.
    pub isolation: Isolation,
    /// How often positions are committed while polling; `None`: only [`Consumer::commit`] does.
    pub commit_interval: Option<Duration>,
    /// Bytes that one fetch may bring.
    pub fetch_bytes_max: usize,
    /// Bytes that one fetch may bring of one partition.
    pub partition_bytes_max: usize,
    /// Bytes that a fetch waits for.
    pub fetch_bytes_min: usize,
    /// How long a fetch waits for them.
    pub fetch_wait: Duration,
    /// Largest batch once decompressed, in bytes.
    pub batch_bytes_max: usize,
    /// How long the group waits for a sign of life.
    pub session_timeout: Duration,
    /// How long the group waits for members to join again.
    pub rebalance_timeout: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            group_instance_id: None,
            offset_reset: OffsetReset::Latest,
            isolation: Isolation::default(),
            commit_interval: None,
            fetch_bytes_max: 16 << 20,
            partition_bytes_max: 1 << 20,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            batch_bytes_max: 128 << 20,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
        }
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
}
