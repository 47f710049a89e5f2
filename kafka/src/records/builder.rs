//! Making batches: by producers, by views that leave records out, and by the brokers themselves.

use bytes::Bytes;
use thiserror::Error;

use super::checksum::crc32c;
use super::compression::compress;
use super::header::{ATTRIBUTES_AT, CRC_AT, MAGIC};
use super::{Attributes, BatchError, BatchHeader, Compression, HEADER_BYTES, Header, Headers, varint};
use super::{LOG_OVERHEAD_BYTES, RecordSpan, TimestampType};

/// Collects records and encodes them as one batch.
///
/// Uncompressed records are written straight to where they stay.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    /// Room for the header, then the records as they come.
    buffer: Vec<u8>,
    /// The last delta appended; -1 before the first.
    last_delta: i32,
    /// Largest timestamp appended.
    max_timestamp: i64,
    /// Set when the caller decides and not the records.
    fixed: Fixed,
}

#[derive(Debug, Clone, Copy, Default)]
struct Fixed {
    base_timestamp: bool,
    last_offset_delta: Option<i32>,
    max_timestamp: Option<i64>,
}

/// Why a record cannot be appended or a batch not be finished.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// Offset deltas must rise.
    #[error("offset delta {delta} does not follow {last}")]
    OffsetDelta {
        /// The one given.
        delta: i32,
        /// The one before it.
        last: i32,
    },
    /// The batch would be larger than its length field can say.
    #[error("a batch cannot hold more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The codec failed or is not built in.
    #[error(transparent)]
    Compression(#[from] BatchError),
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// For a batch at offset 0 with create time, no compression and no producer id.
    pub fn new() -> Self {
        Self::with_header(BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: NO_TIMESTAMP,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: 0,
        })
    }

    /// For what is left of a batch after a view or compaction: offsets, timestamps, leader epoch, producer, sequence, flags,
    /// codec, last offset delta and largest timestamp stay those of `source`; records are then
    /// appended with [`BatchBuilder::append_raw`]. With none, it is the empty batch that Kafka's compaction leaves too.
    pub fn like(source: &BatchHeader) -> Self {
        let mut builder = Self::with_header(*source);
        builder.header.records_count = 0;
        builder.fixed = Fixed {
            base_timestamp: true,
            last_offset_delta: Some(source.last_offset_delta),
            max_timestamp: Some(source.max_timestamp),
        };
        builder
    }

    fn with_header(header: BatchHeader) -> Self {
        Self {
            header,
            buffer: vec![0; HEADER_BYTES],
            last_delta: -1,
            max_timestamp: NO_TIMESTAMP,
            fixed: Fixed::default(),
        }
    }

    /// Reserves memory for records of `bytes` in all, before compression.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.buffer.reserve(bytes);
        self
    }

    /// Offset of the batch.
    #[must_use]
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Epoch of the leader.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// Codec for the records.
    #[must_use]
    pub fn compression(mut self, codec: Compression) -> Self {
        self.header.attributes = self.header.attributes.with_compression(codec);
        self
    }

    /// Identity of an idempotent producer, and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Whether the records belong to a transaction.
    #[must_use]
    pub fn transactional(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    /// Whether the record is a marker of the brokers.
    #[must_use]
    pub fn control(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// Append time of the broker for all records, milliseconds.
    #[must_use]
    pub fn log_append_time(mut self, append_time_ms: i64) -> Self {
        self.header.attributes = self
            .header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        self.fixed.max_timestamp = Some(append_time_ms);
        self
    }

    /// The offset that the batch reaches to, whichever records are in it.
    #[must_use]
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.fixed.last_offset_delta = Some(delta);
        self
    }

    /// The largest timestamp, milliseconds, whatever the records say.
    #[must_use]
    pub fn max_timestamp(mut self, timestamp: i64) -> Self {
        self.fixed.max_timestamp = Some(timestamp);
        self
    }

    /// Records appended so far.
    pub fn len(&self) -> usize {
        self.header.records_count as usize
    }

    /// Whether no record was appended yet.
    pub fn is_empty(&self) -> bool {
        self.header.records_count == 0
    }

    /// Bytes of the batch so far, before compression.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends a record at the next offset.
    ///
    /// # Errors
    /// The batch would grow beyond 2 GiB, or has no offset left.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        let next = self.next_delta()?;
        if headers.is_empty() {
            return self.append_raw(next, timestamp, key, value, Headers::default());
        }
        let mut raw = Vec::new();
        for header in headers {
            header.write(&mut raw);
        }
        let headers = Headers::parse(&raw, headers.len() as u32)?;
        self.append_raw(next, timestamp, key, value, headers)
    }

    fn next_delta(&self) -> Result<i32, BuildError> {
        let last = self.last_delta;
        last.checked_add(1)
            .ok_or(BuildError::OffsetDelta { delta: last, last })
    }

    /// Appends a record at an offset of the caller's choice, headers still encoded: what a view does.
    ///
    /// # Errors
    /// The delta does not rise or passes the set last offset delta, or the batch would grow beyond 2 GiB.
    pub fn append_raw(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<(), BuildError> {
        let end = self.fixed.last_offset_delta.unwrap_or(i32::MAX);
        if offset_delta <= self.last_delta || offset_delta > end {
            return Err(BuildError::OffsetDelta {
                delta: offset_delta,
                last: self.last_delta,
            });
        }
        if !self.fixed.base_timestamp {
            self.header.base_timestamp = timestamp;
            self.fixed.base_timestamp = true;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let body_bytes = 1
            + varint::size(timestamp_delta)
            + varint::size(offset_delta.into())
            + nullable_bytes(key)
            + nullable_bytes(value)
            + varint::size(headers.len() as i64)
            + headers.raw().len();
        if self.buffer.len() + body_bytes + 5 > BATCH_BYTES_MAX {
            return Err(BuildError::TooLarge {
                limit: BATCH_BYTES_MAX,
            });
        }
        let out = &mut self.buffer;
        varint::write(out, body_bytes as i64);
        out.push(0);
        varint::write(out, timestamp_delta);
        varint::write(out, offset_delta.into());
        write_nullable(out, key);
        write_nullable(out, value);
        varint::write(out, headers.len() as i64);
        out.extend_from_slice(headers.raw());
        self.last_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.header.records_count += 1;
        Ok(())
    }

    /// Appends a record of the batch that this one was begun [`like`](BatchBuilder::like), unchanged: what a view does with a record that it
    /// keeps. Offset and timestamp count from the same base, so the encoded record is copied as it is.
    ///
    /// # Errors
    /// The delta does not rise or passes the last offset delta, or the batch would grow beyond 2 GiB.
    pub fn append_encoded(&mut self, span: &RecordSpan, data: &[u8]) -> Result<(), BuildError> {
        self.check_delta(span.offset_delta)?;
        let record = span.record_in(data);
        if self.buffer.len() + record.len() > BATCH_BYTES_MAX {
            return Err(BuildError::TooLarge {
                limit: BATCH_BYTES_MAX,
            });
        }
        self.buffer.extend_from_slice(record);
        self.last_delta = span.offset_delta;
        self.max_timestamp = self
            .max_timestamp
            .max(self.header.base_timestamp.wrapping_add(span.timestamp_delta));
        self.header.records_count += 1;
        Ok(())
    }

    fn check_delta(&self, delta: i32) -> Result<(), BuildError> {
        let end = self.fixed.last_offset_delta.unwrap_or(i32::MAX);
        if delta <= self.last_delta || delta > end {
            return Err(BuildError::OffsetDelta {
                delta,
                last: self.last_delta,
            });
        }
        Ok(())
    }

    /// Encodes the batch.
    ///
    /// # Errors
    /// The codec is not built in, or its output is beyond 2 GiB.
    pub fn finish(mut self) -> Result<Bytes, BuildError> {
        let codec = self.header.compression();
        // An empty batch has nothing to compress: no bytes at all are what Kafka writes and reads there.
        if codec != Compression::None && !self.is_empty() {
            let mut compressed = vec![0; HEADER_BYTES];
            compress(codec, &self.buffer[HEADER_BYTES..], &mut compressed)?;
            self.buffer = compressed;
        } else if self.is_empty() {
            self.header.attributes = self.header.attributes.with_compression(Compression::None);
        }
        if self.buffer.len() > BATCH_BYTES_MAX {
            return Err(BuildError::TooLarge {
                limit: BATCH_BYTES_MAX,
            });
        }
        let mut header = self.header;
        header.batch_length = (self.buffer.len() - LOG_OVERHEAD_BYTES) as i32;
        header.last_offset_delta = self.fixed.last_offset_delta.unwrap_or(self.last_delta.max(0));
        header.max_timestamp = self.fixed.max_timestamp.unwrap_or(self.max_timestamp);
        self.buffer[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let crc = crc32c(&self.buffer[ATTRIBUTES_AT..]);
        self.buffer[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        Ok(self.buffer.into())
    }
}

impl Header<'_> {
    /// Encodes it as it stands in a record, behind what is there.
    pub fn write(&self, to: &mut Vec<u8>) {
        write_nullable(to, Some(self.key));
        write_nullable(to, self.value);
    }
}

fn nullable_bytes(part: Option<&[u8]>) -> usize {
    part.map_or(1, |part| varint::size(part.len() as i64) + part.len())
}

fn write_nullable(out: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => varint::write(out, -1),
        Some(part) => {
            varint::write(out, part.len() as i64);
            out.extend_from_slice(part);
        }
    }
}

const BATCH_BYTES_MAX: usize = i32::MAX as usize;
/// What Kafka writes when there is no timestamp.
const NO_TIMESTAMP: i64 = -1;
