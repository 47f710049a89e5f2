//! What can be wrong with a batch, told so that a user can act on it.

use thiserror::Error;

/// The fault found in a record batch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch is cut short: {available} bytes of {needed}")]
    Truncated {
        /// Bytes that the batch says it has.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// A message set of magic 0 or 1, which Kafka has not accepted since 4.0 (KIP-724).
    #[error("message format with magic {0} is not supported, magic 2 is (Kafka 0.11 and later)")]
    UnsupportedMagic(i8),
    /// A magic byte that no version of Kafka has written.
    #[error("unknown magic byte {0}")]
    UnknownMagic(i8),
    /// `batch_length` is below that of an empty batch.
    #[error("batch length {0} is smaller than a batch header")]
    Length(i32),
    /// The checksum does not fit the bytes.
    #[error("checksum of the batch is {computed:#010x}, its header says {stored:#010x}")]
    Crc {
        /// The field of the header.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A header field holds a value that no writer produces.
    #[error("batch header field {field} has the value {value}")]
    Field {
        /// Kafka's name of the field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// More bytes in one batch than allowed.
    #[error("batch of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
        /// The limit, `max.message.bytes` of the topic.
        limit: usize,
    },
    /// More bytes after decompression than allowed.
    #[error("batch decompresses to more than {limit} bytes")]
    DecompressedTooLarge {
        /// The limit that was met.
        limit: usize,
    },
    /// The attributes name a codec that does not exist.
    #[error("unknown compression codec {0}")]
    UnknownCompression(u8),
    /// The codec exists, but this build has no code for it.
    #[error("compression codec {0} is not built in")]
    UnsupportedCompression(&'static str),
    /// The compressed bytes are damaged.
    #[error("{codec} data is damaged: {reason}")]
    Compressed {
        /// Name of the codec.
        codec: &'static str,
        /// What the codec says.
        reason: String,
    },
    /// A record is not well formed.
    #[error("record {index} of the batch: {reason}")]
    Record {
        /// Position of the record in the batch, from 0.
        index: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The records do not fill the batch, or there are more than the header counts.
    #[error("{bytes} bytes follow the last record of the batch")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A producer sent something that only brokers may write.
    #[error("{0}")]
    Refused(&'static str),
    /// A produce request carries another number of batches for a partition than one.
    #[error("a produce request must hold exactly one batch for each partition")]
    NotOneBatch,
}

/// The classes that Kafka's error codes tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchErrorKind {
    /// `CORRUPT_MESSAGE`: the bytes were damaged; sending them again may help.
    Corrupt,
    /// `INVALID_RECORD`: the producer made a batch that is wrong.
    Invalid,
    /// `MESSAGE_TOO_LARGE`.
    TooLarge,
    /// `UNSUPPORTED_FOR_MESSAGE_FORMAT`.
    UnsupportedFormat,
    /// `UNSUPPORTED_COMPRESSION_TYPE`.
    UnsupportedCompression,
}

impl BatchError {
    /// The class of the fault, from which the answer's error code follows.
    pub fn kind(&self) -> BatchErrorKind {
        match self {
            Self::Truncated { .. }
            | Self::Length(_)
            | Self::Crc { .. }
            | Self::Compressed { .. }
            | Self::UnknownMagic(_) => BatchErrorKind::Corrupt,
            Self::Field { .. }
            | Self::Record { .. }
            | Self::TrailingBytes { .. }
            | Self::Refused(_)
            | Self::NotOneBatch => BatchErrorKind::Invalid,
            Self::TooLarge { .. } | Self::DecompressedTooLarge { .. } => BatchErrorKind::TooLarge,
            Self::UnsupportedMagic(_) => BatchErrorKind::UnsupportedFormat,
            Self::UnknownCompression(_) | Self::UnsupportedCompression(_) => {
                BatchErrorKind::UnsupportedCompression
            }
        }
    }
}
