//! Stamping: what a leader writes into a batch it appends, without copying the records.

use super::checksum::crc32c_of_both;
use super::header::{ATTRIBUTES_AT, BatchHeader, CRC_AT, HEADER_BYTES, TimestampType};

/// Bytes that [`stamp`] replaces at the front of a batch.
pub const STAMP_BYTES: usize = 16;

/// The first 16 bytes of `batch` with its final offset and leader epoch.
///
/// They lie before the checksummed part, so the checksum stays right. Write these, then `batch[16..]`.
///
/// # Panics
/// If `batch` is shorter than a header: callers pass a validated batch.
pub fn stamp(batch: &[u8], base_offset: i64, leader_epoch: i32) -> [u8; STAMP_BYTES] {
    let mut front: [u8; STAMP_BYTES] = *batch.first_chunk().expect("a validated batch has a header");
    front[0..8].copy_from_slice(&base_offset.to_be_bytes());
    front[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    front
}

/// The header of `batch` with its final offset, leader epoch and log append time, and the checksum that
/// follows. Write it, then `batch[61..]`.
///
/// # Panics
/// If `batch` is shorter than a header: callers pass a validated batch.
pub fn restamp_log_append_time(
    batch: &[u8],
    base_offset: i64,
    leader_epoch: i32,
    append_time_ms: i64,
) -> [u8; HEADER_BYTES] {
    restamp(
        batch,
        base_offset,
        leader_epoch,
        TimestampType::LogAppendTime,
        append_time_ms,
    )
}

/// As [`restamp_log_append_time`], with any timestamp type and largest timestamp (milliseconds): a leader
/// that stores create time uses it to put right a `max_timestamp` which does not fit the records.
///
/// The checksum is taken anew over the whole batch, whose bytes are still in the cache: deriving it from the
/// old one pays only from some 40 KiB on, and a microsecond at most.
///
/// # Panics
/// If `batch` is shorter than a header: callers pass a validated batch.
pub fn restamp(
    batch: &[u8],
    base_offset: i64,
    leader_epoch: i32,
    timestamp_type: TimestampType,
    max_timestamp: i64,
) -> [u8; HEADER_BYTES] {
    let old: &[u8; HEADER_BYTES] = batch.first_chunk().expect("a validated batch has a header");
    let mut header = BatchHeader::read(old);
    header.base_offset = base_offset;
    header.partition_leader_epoch = leader_epoch;
    header.attributes = header.attributes.with_timestamp_type(timestamp_type);
    header.max_timestamp = max_timestamp;
    let mut front = header.to_bytes();
    let crc = crc32c_of_both(&front[ATTRIBUTES_AT..], &batch[HEADER_BYTES..]);
    front[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    front
}
