//! Records in a message, and the pieces that a frame is sent in.

use bytes::Bytes;

/// Record batches in a message, which need not be in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The batches.
    Bytes(Bytes),
    /// Batches that lie elsewhere, for example in a file: whoever sends the frame finds them by `index`.
    External {
        /// Number of the piece, which means something to the sender alone.
        index: u32,
        /// How many bytes it has.
        len: u32,
    },
}

impl Payload {
    /// The batches, if they are in memory.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::External { .. } => None,
        }
    }

    /// How many bytes the batches have.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::External { len, .. } => *len as usize,
        }
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// A piece of a frame. The pieces are sent one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that lie elsewhere: those of [`Payload::External`].
    External {
        /// Number of the piece.
        index: u32,
        /// How many bytes it has.
        len: u32,
    },
}
