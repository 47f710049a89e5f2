//! The gate: what a produced batch must be before a leader appends it (Kafka's `LogValidator`).

use std::cell::RefCell;

use super::{BatchError, BatchHeader, BatchView, Scratch, TimestampType};

/// Bounds that a produced batch must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the batch as sent, header included: `max.message.bytes` of the topic.
    pub batch_bytes_max: usize,
    /// Bytes of its records after decompression.
    pub decompressed_bytes_max: usize,
}

impl Default for Limits {
    /// Kafka's default for the batch; for its decompressed records, what a frame may hold.
    fn default() -> Self {
        Self {
            batch_bytes_max: 1_048_588,
            decompressed_bytes_max: 100 << 20,
        }
    }
}

/// What [`validate()`] has found out on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validated {
    /// The header as the producer sent it.
    pub header: BatchHeader,
    /// How many records.
    pub record_count: u32,
    /// Smallest timestamp of the records, milliseconds.
    pub min_timestamp: i64,
    /// Largest timestamp of the records, milliseconds.
    pub max_timestamp: i64,
    /// Offset delta of the first record that has the largest timestamp.
    pub max_timestamp_offset_delta: i32,
    /// Bytes of the records after decompression.
    pub decompressed_bytes: usize,
}

impl Validated {
    /// Whether the header's `max_timestamp` fits the records. If not, a leader that keeps create time
    /// should use [`super::restamp`] with [`Validated::max_timestamp`].
    pub fn max_timestamp_is_right(&self) -> bool {
        self.header.max_timestamp == self.max_timestamp
    }
}

/// Checks `batch`, the records field of a produce request: exactly one batch of magic 2 within the limits, with
/// a right checksum, a known codec, well-formed records, and offset deltas 0, 1, 2 and so on.
///
/// Uncompressed records are walked in place; compressed ones are decompressed into memory that the thread keeps.
///
/// # Errors
/// The first fault found; [`BatchError::kind`] says which error the producer gets.
pub fn validate(batch: &[u8], limits: &Limits) -> Result<Validated, BatchError> {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let validated = validate_with(batch, limits, scratch);
        scratch.shrink(SCRATCH_KEEP_BYTES);
        validated
    })
}

/// As [`validate()`], with working memory of the caller.
///
/// # Errors
/// The first fault found.
pub fn validate_with(batch: &[u8], limits: &Limits, scratch: &mut Scratch) -> Result<Validated, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.total_bytes() > limits.batch_bytes_max {
        return Err(BatchError::TooLarge {
            bytes: header.total_bytes(),
            limit: limits.batch_bytes_max,
        });
    }
    let view = BatchView::parse(batch)?;
    if view.bytes().len() != batch.len() {
        return Err(BatchError::NotOneBatch);
    }
    view.verify_crc()?;
    check_header(&header)?;
    let data = view.data(scratch, limits.decompressed_bytes_max)?;
    check_records(&view, data)
}

fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    let attributes = header.attributes;
    if attributes.is_control() {
        return Err(BatchError::Refused("a producer must not write control batches"));
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::Refused("a producer must not set log append time"));
    }
    if header.records_count == 0 || header.records_count - 1 != header.last_offset_delta {
        return Err(BatchError::Field {
            field: "recordsCount",
            value: header.records_count.into(),
        });
    }
    if header.has_producer_id() && header.producer_epoch < 0 {
        return Err(BatchError::Field {
            field: "producerEpoch",
            value: header.producer_epoch.into(),
        });
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(BatchError::Field {
            field: "baseSequence",
            value: header.base_sequence.into(),
        });
    }
    if attributes.is_transactional() && !header.has_producer_id() {
        return Err(BatchError::Refused("a transactional batch needs a producer id"));
    }
    Ok(())
}

fn check_records(view: &BatchView<'_>, data: &[u8]) -> Result<Validated, BatchError> {
    let header = *view.header();
    let (mut min_delta, mut max_delta, mut max_at) = (i64::MAX, i64::MIN, 0);
    let mut index = 0;
    view.spans(data).each(|span| {
        if span.offset_delta as u32 != index {
            return Err(BatchError::Record {
                index,
                reason: "offset deltas must count from 0",
            });
        }
        index += 1;
        min_delta = min_delta.min(span.timestamp_delta);
        if span.timestamp_delta > max_delta {
            (max_delta, max_at) = (span.timestamp_delta, span.offset_delta);
        }
        Ok(())
    })?;
    let timestamp = |delta| {
        header.base_timestamp.checked_add(delta).ok_or(BatchError::Field {
            field: "baseTimestamp",
            value: header.base_timestamp,
        })
    };
    Ok(Validated {
        header,
        record_count: header.records_count as u32,
        min_timestamp: timestamp(min_delta)?,
        max_timestamp: timestamp(max_delta)?,
        max_timestamp_offset_delta: max_at,
        decompressed_bytes: data.len(),
    })
}

/// What a thread keeps between batches; a larger one gives its memory back at once.
const SCRATCH_KEEP_BYTES: usize = 4 << 20;
