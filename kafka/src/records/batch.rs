//! A batch as it lies in a file or a request: header and bytes, borrowed.

use super::checksum::crc32c;
use super::compression::Decompressor;
use super::header::ATTRIBUTES_AT;
use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, Record, Spans};

/// One whole batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes`; what follows it is left alone.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], or fewer bytes than the batch has.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.total_bytes();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Truncated {
                needed,
                available: bytes.len(),
            }),
        }
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch as it is, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: records, or their compressed form.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// [`BatchError::Crc`] with both values.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc {
            stored: self.header.crc,
            computed,
        })
    }

    /// The records as plain bytes: borrowed from the batch, or decompressed into `scratch`.
    ///
    /// # Errors
    /// Damaged compressed data, or more than `limit` bytes of it.
    pub fn data<'s>(&self, scratch: &'s mut Scratch, limit: usize) -> Result<&'s [u8], BatchError>
    where
        'a: 's,
    {
        match self.header.compression() {
            Compression::None => Ok(self.payload()),
            codec => scratch.decompressor.decompress(codec, self.payload(), limit),
        }
    }

    /// The records, decompressed into `scratch` when need be.
    ///
    /// # Errors
    /// As [`BatchView::data`]; what is wrong with a single record is told when it is its turn.
    pub fn records<'s>(&self, scratch: &'s mut Scratch, limit: usize) -> Result<Records<'s>, BatchError>
    where
        'a: 's,
    {
        Ok(Records {
            header: self.header,
            spans: self.spans(self.data(scratch, limit)?),
        })
    }

    /// The places of the records in `data`, which [`BatchView::data`] gave.
    pub fn spans<'d>(&self, data: &'d [u8]) -> Spans<'d> {
        Spans::new(data, self.header.records_count as u32)
    }
}

/// Working memory for reading compressed batches, to be kept and used again.
#[derive(Default)]
pub struct Scratch {
    decompressor: Decompressor,
}

impl Scratch {
    /// Without any memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held at the moment.
    pub fn capacity(&self) -> usize {
        self.decompressor.capacity()
    }

    /// Gives memory back that one large batch made it take, if it holds more than `keep` bytes.
    pub fn shrink(&mut self, keep: usize) {
        if self.capacity() > keep {
            *self = Self::default();
        }
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch")
            .field("capacity", &self.capacity())
            .finish()
    }
}

/// The records of one batch.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    spans: Spans<'a>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let data = self.spans.data();
        Some(self.spans.next()?.map(|span| Record {
            offset: self.header.base_offset + i64::from(span.offset_delta),
            timestamp: self.header.timestamp_of(span.timestamp_delta),
            key: span.key_in(data),
            value: span.value_in(data),
            headers: span.headers_in(data),
        }))
    }
}

/// Walks the batches that lie one behind the other in `bytes`.
///
/// A fetch may end within a batch: then the last item is [`BatchError::Truncated`]. It ends after any error.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The bytes that have not been walked yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.bytes.len()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}
