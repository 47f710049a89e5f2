//! Walks the batches of a segment file, in pieces and with bounded memory.

use std::io;

use millstream_kafka::records::{BatchError, BatchHeader, BatchView, HEADER_BYTES};

use crate::disk::{DiskFile, read_exact};

/// What stands at a place of a file.
#[derive(Debug)]
pub(crate) enum Found {
    /// A batch that ends within the file.
    Batch(BatchHeader),
    /// Nothing, the range ends here.
    End,
    /// Something that is no batch, or not all of one.
    Bad(BatchError),
}

/// Reads batches one behind the other. Holds one piece of the file at a time.
#[derive(Debug)]
pub(crate) struct Scanner<'a, F> {
    file: &'a F,
    position: u64,
    end: u64,
    piece: Vec<u8>,
    piece_at: u64,
    piece_bytes: usize,
}

impl<'a, F: DiskFile> Scanner<'a, F> {
    /// Over the bytes from `position` to `end`, reading `piece_bytes` at a time.
    pub fn new(file: &'a F, position: u64, end: u64, piece_bytes: usize) -> Self {
        let piece_bytes = piece_bytes.max(HEADER_BYTES);
        Self {
            file,
            position,
            end,
            piece: Vec::new(),
            piece_at: position,
            piece_bytes,
        }
    }

    /// Where the next batch begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's header, without stepping over it.
    pub fn peek(&mut self) -> io::Result<Found> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(Found::End);
        }
        let front = self.bytes((left as usize).min(HEADER_BYTES))?;
        let header = match BatchHeader::parse(front) {
            Ok(header) => header,
            Err(error) => return Ok(Found::Bad(error)),
        };
        let needed = header.total_bytes();
        if needed as u64 > left {
            return Ok(Found::Bad(BatchError::Truncated {
                needed,
                available: left as usize,
            }));
        }
        Ok(Found::Batch(header))
    }

    /// As [`Scanner::peek`], with the checksum compared.
    pub fn peek_verified(&mut self) -> io::Result<Found> {
        let Found::Batch(header) = self.peek()? else {
            return self.peek();
        };
        let bytes = self.bytes(header.total_bytes())?;
        Ok(
            match BatchView::parse(bytes).and_then(|batch| batch.verify_crc()) {
                Ok(()) => Found::Batch(header),
                Err(error) => Found::Bad(error),
            },
        )
    }

    /// The bytes of the batch that [`Scanner::peek`] found.
    pub fn batch_bytes(&mut self, header: &BatchHeader) -> io::Result<&[u8]> {
        self.bytes(header.total_bytes())
    }

    /// Steps over the batch that was peeked at.
    pub fn skip(&mut self, header: &BatchHeader) {
        self.position += header.total_bytes() as u64;
    }

    fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        let piece_end = self.piece_at + self.piece.len() as u64;
        if self.position < self.piece_at || self.position + count as u64 > piece_end {
            let left = self.end - self.position;
            let wanted = (count.max(self.piece_bytes) as u64).min(left) as usize;
            self.piece.resize(wanted, 0);
            read_exact(self.file, &mut self.piece, self.position)?;
            self.piece_at = self.position;
        }
        let from = (self.position - self.piece_at) as usize;
        Ok(&self.piece[from..from + count])
    }
}

/// Bytes that a scan through much of a file reads at a time.
pub(crate) const LONG_SCAN_BYTES: usize = 256 * 1024;
