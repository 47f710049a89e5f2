//! What goes in and comes out.

use super::record::Record;

/// Bounds of transactions, with Kafka's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionConfig {
    /// Longest time-out that a producer may ask for, in milliseconds: `transaction.max.timeout.ms`.
    pub timeout_ms_max: i32,
    /// How long an id is remembered that nobody uses, in milliseconds: `transactional.id.expiration.ms`.
    pub expiration_ms: i64,
    /// Most ids of one partition of `__transaction_state`.
    pub ids_max: usize,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            timeout_ms_max: 15 * 60 * 1000,
            expiration_ms: 7 * 24 * 3_600_000,
            ids_max: 200_000,
        }
    }
}

/// Epoch of a producer: the one with the largest has the transactional id.
pub type ProducerEpoch = i16;

/// A producer, in one of its epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// No producer.
    pub const NONE: Self = Self { id: -1, epoch: -1 };

    /// Whether there is no epoch left for the next transaction: the producer gets another id.
    pub fn is_exhausted(self) -> bool {
        self.epoch >= ProducerEpoch::MAX - 1
    }

    pub(super) fn next(self) -> Self {
        Self {
            epoch: self.epoch.saturating_add(1),
            ..self
        }
    }
}

/// How a client's transactions work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// The producer names partitions before it writes to them, and keeps its epoch.
    #[default]
    V1,
    /// Leaders name partitions as they are written to, and every transaction has an epoch of its own (KIP-890).
    V2,
}

impl Version {
    pub(super) fn from_log(version: i16) -> Self {
        match version {
            2.. => Self::V2,
            _ => Self::V1,
        }
    }

    pub(super) fn to_log(self) -> i16 {
        match self {
            Self::V1 => 0,
            Self::V2 => 2,
        }
    }
}

/// A producer begins, or goes on after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitRequest {
    /// Longest time of a transaction, in milliseconds.
    pub timeout_ms: i32,
    /// Who it believes to be, if it goes on (KIP-360).
    pub expected: Option<Producer>,
    /// An id that no producer has had; [`TransactionError::ProducerIdNeeded`] says that there must be one.
    pub fresh: Option<i64>,
}

/// A producer ends its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRequest {
    /// Who.
    pub producer: Producer,
    /// Whether what was written counts.
    pub is_commit: bool,
    /// How its transactions work.
    pub version: Version,
    /// As [`InitRequest::fresh`].
    pub fresh: Option<i64>,
}

/// What the driver has to do: append the records and replay them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "records are lost with it"]
pub struct Step {
    /// To be written in this order.
    pub records: Vec<Record>,
}

impl Step {
    pub(super) fn of(record: Record) -> Self {
        Self {
            records: vec![record],
        }
    }
}

/// Why a request was refused; Kafka's error codes have the same names, but for the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The request makes no sense.
    #[error("the transactional id is empty or too long, or so is a topic, or the producer is none")]
    InvalidRequest,
    /// The time-out is not positive, or too long.
    #[error("the transaction's time-out is not within transaction.max.timeout.ms")]
    InvalidTransactionTimeout,
    /// The coordinator does not know that producer under that id.
    #[error("the producer id is not that of the transactional id")]
    InvalidProducerIdMapping,
    /// A newer producer has the transactional id, or the transaction's time was over.
    #[error("a newer producer has the transactional id, or its transaction took too long")]
    ProducerFenced,
    /// The transaction before is not over yet: the request has to come again.
    #[error("the transaction before is not over yet")]
    ConcurrentTransactions,
    /// Not in this state of the transaction.
    #[error("the transaction is in another state")]
    InvalidTxnState,
    /// The partition does not belong to the transaction.
    #[error("the partition is not part of the transaction")]
    NotInTransaction,
    /// There are as many ids as the coordinator keeps.
    #[error("the coordinator keeps as many transactional ids as it may")]
    TooManyIds,
    /// The request has to come again with a fresh producer id. No client hears this.
    #[error("a fresh producer id is needed")]
    ProducerIdNeeded,
}

/// Longest transactional id, and longest topic, in bytes: no record holds more.
pub(super) const TEXT_BYTES_MAX: usize = i16::MAX as usize;
