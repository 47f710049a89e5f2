//! What can be wrong with bytes that should be a message, and with a message that should become bytes.

use thiserror::Error;

/// Bytes that are no message of the kind and version that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("byte {at}: {kind}")]
pub struct DecodeError {
    /// Position in the frame.
    pub at: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// The faults of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A field, or all the elements that a count promises, need more bytes than there are.
    #[error("{needed} bytes are needed, {available} are left")]
    Truncated {
        /// Bytes that are needed at least.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// A length or count below that of null.
    #[error("a length of {0}")]
    Length(i32),
    /// Text longer than Kafka allows.
    #[error("text of {0} bytes is too long")]
    TextTooLong(usize),
    /// Null where the version does not allow it.
    #[error("{0} is null")]
    Null(&'static str),
    /// A varint that does not fit 32 bits.
    #[error("a varint without an end")]
    Varint,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A tagged field that does not fill the bytes that it says it has.
    #[error("{0} bytes follow the value of a tagged field")]
    TaggedFieldLength(usize),
    /// A version that the message does not have.
    #[error("version {0} is not supported")]
    Version(i16),
}

/// A message that has no representation in the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Text longer than Kafka allows.
    #[error("text of {0} bytes is too long")]
    TextTooLong(usize),
    /// More bytes or elements than a length field can say.
    #[error("a length of {0} is too large")]
    TooLong(usize),
    /// Null where the version does not allow it.
    #[error("{0} must not be null in this version")]
    Null(&'static str),
    /// A version that the message does not have.
    #[error("version {0} is not supported")]
    Version(i16),
}
