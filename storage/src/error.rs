//! What can go wrong, one type per operation.

use std::io;
use std::path::PathBuf;

use millstream_core::ids::Offset;
use millstream_kafka::records::BatchError;
use thiserror::Error;

use crate::disk::is_full;

/// Why a batch was not appended. The log is as it was before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A gap or a step back in an idempotent producer's sequence numbers (KIP-98).
    #[error("producer {producer_id} sent sequence {sequence}, expected is {expected}")]
    OutOfOrderSequence {
        /// Who.
        producer_id: i64,
        /// First sequence number of the batch.
        sequence: i32,
        /// The one that had to come.
        expected: i32,
    },
    /// The producer was fenced by a newer incarnation.
    #[error("producer {producer_id} has epoch {epoch}, the log has seen {current}")]
    InvalidProducerEpoch {
        /// Who.
        producer_id: i64,
        /// Epoch of the batch.
        epoch: i16,
        /// Largest epoch seen.
        current: i16,
    },
    /// Nothing is known of the producer where something must be. Idempotent batches never meet it: the first batch of
    /// an unknown producer is taken with any sequence number, as Kafka does.
    #[error("producer {producer_id} is not known to this log")]
    UnknownProducer {
        /// Who.
        producer_id: i64,
    },
    /// The batch is known to be there, but where is no longer known.
    #[error("producer {producer_id} sent sequence {sequence} again")]
    DuplicateSequence {
        /// Who.
        producer_id: i64,
        /// First sequence number of the batch.
        sequence: i32,
    },
    /// Records that are not part of the transaction which their producer has open.
    #[error("producer {producer_id} has a transaction open, and the batch is not part of it")]
    InvalidTransactionState {
        /// Who.
        producer_id: i64,
    },
    /// A marker of a coordinator that was replaced by a newer one.
    #[error(
        "a coordinator of epoch {epoch} ends a transaction of producer {producer_id}, the log has seen {current}"
    )]
    TransactionCoordinatorFenced {
        /// Whose transaction.
        producer_id: i64,
        /// Epoch of the coordinator.
        epoch: i32,
        /// Largest epoch seen in this producer's markers.
        current: i32,
    },
    /// The batch would begin one transaction too many.
    #[error("{limit} transactions are open in this partition, which is as many as there may be")]
    TooManyTransactions {
        /// How many there are.
        limit: usize,
    },
    /// The batch is larger than a segment may become.
    #[error("batch of {bytes} bytes is larger than a segment of {limit}")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// `segment.bytes`.
        limit: u64,
    },
    /// The bytes are no batch, or not one that may follow.
    #[error("not a batch that can be appended: {0}")]
    Batch(#[from] BatchError),
    /// A follower was given a batch that does not continue its log.
    #[error("batch begins at offset {found}, the log ends at {expected}")]
    NotContiguous {
        /// Base offset of the batch.
        found: Offset,
        /// Log end offset.
        expected: Offset,
    },
    /// Offsets have run out.
    #[error("the log has no offsets left")]
    OffsetsExhausted,
    /// No space is left. Reading goes on, and so does writing once there is space.
    #[error("the disk is full")]
    DiskFull,
    /// A sync or the undoing of a write failed before: this log takes no writes until it is opened anew.
    #[error("the log takes no more writes: {0}")]
    Poisoned(&'static str),
    /// The disk failed.
    #[error("writing the log failed: {0}")]
    Io(#[source] io::Error),
}

/// Why nothing was read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log does not hold the offset.
    #[error("offset {offset} is outside of {start}..{end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// One past the last offset that may be read.
        end: Offset,
    },
    /// The file does not hold what was once made durable in it.
    #[error("{path} is damaged at byte {position}: {reason}")]
    Damaged {
        /// Segment file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The disk failed.
    #[error("reading the log failed: {0}")]
    Io(#[from] io::Error),
}

/// Why a log could not be opened. Nothing was deleted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What had been made durable is gone or changed. A person must decide: restore the file, or take it away.
    #[error("{path} is damaged at byte {position}: {reason}")]
    Damaged {
        /// Segment or checkpoint file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The disk failed.
    #[error("opening the log in {path} failed: {error}")]
    Io {
        /// Partition directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl ReadError {
    /// Whether it was asked for something that the log does not hold; else the log could not be read.
    pub fn is_out_of_range(&self) -> bool {
        matches!(self, Self::OutOfRange { .. })
    }
}

impl From<OpenError> for ReadError {
    /// What keeps a log from being opened again after it was shortened.
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged {
                path,
                position,
                reason,
            } => Self::Damaged {
                path,
                position,
                reason,
            },
            OpenError::Io { error, .. } => Self::Io(error),
        }
    }
}

impl AppendError {
    pub(crate) fn from_io(error: io::Error) -> Self {
        if is_full(&error) {
            Self::DiskFull
        } else {
            Self::Io(error)
        }
    }
}
