//! The 61 bytes at the front of every batch.

use super::{BatchError, Compression};

/// Size of a batch header, up to the first record (or the compressed bytes).
pub const HEADER_BYTES: usize = 61;

/// `base_offset` and `batch_length`: the bytes that `batch_length` does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;

/// The header of a record batch with magic 2, fields named as in Kafka's description of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the batch. Zero when a producer sends it, stamped by the leader.
    pub base_offset: i64,
    /// Bytes that follow this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; not covered by the checksum.
    pub partition_leader_epoch: i32,
    /// Always 2.
    pub magic: i8,
    /// CRC-32C of everything from `attributes` to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record relative to `base_offset`, also when compaction has removed that record.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from, milliseconds (the delete horizon, if that flag is set).
    pub base_timestamp: i64,
    /// Largest timestamp of the records, or the append time; milliseconds.
    pub max_timestamp: i64,
    /// Idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch; 0 after compaction has removed them all.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may hold less than the whole batch.
    ///
    /// # Errors
    /// Fewer than 61 bytes, another magic than 2, a length, count, delta or codec out of range. The
    /// checksum is not looked at: see [`super::BatchView::verify_crc`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Magic sits at the same place in all formats, and old messages are shorter than a header.
        match bytes.get(MAGIC_AT).map(|magic| *magic as i8) {
            Some(MAGIC) => {}
            Some(magic @ 0..=1) => return Err(BatchError::UnsupportedMagic(magic)),
            Some(magic) => return Err(BatchError::UnknownMagic(magic)),
            None => return Err(too_short(bytes)),
        }
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(|| too_short(bytes))?;
        let header = Self::read(head);
        header.check()?;
        Ok(header)
    }

    pub(super) fn read(head: &[u8; HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(head, 0)),
            batch_length: i32::from_be_bytes(field(head, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(head, 12)),
            magic: head[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(field(head, 17)),
            attributes: Attributes(i16::from_be_bytes(field(head, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(head, 23)),
            base_timestamp: i64::from_be_bytes(field(head, 27)),
            max_timestamp: i64::from_be_bytes(field(head, 35)),
            producer_id: i64::from_be_bytes(field(head, 43)),
            producer_epoch: i16::from_be_bytes(field(head, 51)),
            base_sequence: i32::from_be_bytes(field(head, 53)),
            records_count: i32::from_be_bytes(field(head, 57)),
        }
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.batch_length < (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::Length(self.batch_length));
        }
        let wrong = |field, value| Err(BatchError::Field { field, value });
        if self.base_offset < 0
            || self
                .base_offset
                .checked_add(self.last_offset_delta.into())
                .is_none()
        {
            return wrong("baseOffset", self.base_offset);
        }
        if self.last_offset_delta < 0 {
            return wrong("lastOffsetDelta", self.last_offset_delta.into());
        }
        // Offsets within a batch are distinct, so there are never more records than offsets.
        if self.records_count < 0 || i64::from(self.records_count) > i64::from(self.last_offset_delta) + 1 {
            return wrong("recordsCount", self.records_count.into());
        }
        self.attributes.compression().map(|_| ())
    }

    /// The header as bytes, with `crc` as it stands in the struct.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        head[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        head[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        head[MAGIC_AT] = self.magic as u8;
        head[17..21].copy_from_slice(&self.crc.to_be_bytes());
        head[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        head[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        head[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        head[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        head[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        head[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        head[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        head[57..61].copy_from_slice(&self.records_count.to_be_bytes());
        head
    }

    /// Offset of the last record (or of the last one that was there before compaction).
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset that the next batch may start at.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Bytes of the whole batch, header included.
    pub fn total_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + self.batch_length as usize
    }

    /// Codec of the records.
    pub fn compression(&self) -> Compression {
        self.attributes
            .compression()
            .expect("the codec was checked when the header was parsed or built")
    }

    /// Whether an idempotent producer made the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; sequence numbers wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        (self.base_sequence.wrapping_add(self.last_offset_delta)) & i32::MAX
    }

    /// Timestamp of the record whose delta is given, milliseconds: with log append time all records share one.
    pub fn timestamp_of(&self, timestamp_delta: i64) -> i64 {
        match self.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.max_timestamp,
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(timestamp_delta),
        }
    }
}

/// The attributes field: codec in bits 0-2, flags above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

/// What the timestamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// Set by the producer, one for each record.
    #[default]
    CreateTime,
    /// Set by the broker, one for the batch.
    LogAppendTime,
}

impl Attributes {
    /// The codec.
    ///
    /// # Errors
    /// The three bits hold a number above 4.
    pub fn compression(self) -> Result<Compression, BatchError> {
        Compression::from_id((self.0 & COMPRESSION_MASK) as u8)
    }

    /// Bit 3.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Bit 4: the records belong to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Bit 5: the one record is a marker that brokers wrote.
    pub fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Bit 6: `base_timestamp` is the time when tombstones may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_compression(self, codec: Compression) -> Self {
        Self((self.0 & !COMPRESSION_MASK) | i16::from(codec.id()))
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(LOG_APPEND_TIME, kind == TimestampType::LogAppendTime)
    }

    /// The same with the transactional flag set or cleared.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(TRANSACTIONAL, on)
    }

    /// The same with the control flag set or cleared.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(CONTROL, on)
    }

    fn with(self, flag: i16, on: bool) -> Self {
        if on {
            Self(self.0 | flag)
        } else {
            Self(self.0 & !flag)
        }
    }
}

fn field<const N: usize>(head: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("fields lie within the header")
}

fn too_short(bytes: &[u8]) -> BatchError {
    BatchError::Truncated {
        needed: HEADER_BYTES,
        available: bytes.len(),
    }
}

pub(super) const MAGIC: i8 = 2;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
const MAGIC_AT: usize = 16;
const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;
