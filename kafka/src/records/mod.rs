//! Record batches, magic 2: parsing, checking, iterating, building and (de)compressing them.
//!
//! A batch is a 61-byte header and a run of records that may be compressed as a whole
//! (KIP-98, Kafka's `DefaultRecordBatch`). Everything here works on byte slices and borrows from
//! them: keys, values and headers are never copied, and nothing is allocated because a length field
//! says so. The module knows no partition, no file and no clock.
//!
//! The way in is [`validate()`], which a produced batch must pass; the way out is [`batches`], which
//! walks the batches of a fetched byte range; [`BatchBuilder`] makes new ones.

mod aborted;
mod batch;
mod builder;
mod checksum;
mod compression;
mod control;
mod error;
mod header;
mod recompress;
mod record;
mod stamp;
#[cfg(test)]
mod tests;
mod validate;
mod varint;

pub use aborted::Aborted;
pub use batch::{BatchView, Batches, Records, Scratch, batches};
pub use builder::{BatchBuilder, BuildError};
pub use checksum::crc32c;
pub use compression::{Compression, compress, decompress};
pub use control::EndTransaction;
pub use error::{BatchError, BatchErrorKind};
pub use header::{Attributes, BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, TimestampType};
pub use recompress::recompress;
pub use record::{Header, Headers, Record, RecordSpan, Spans};
pub use stamp::{STAMP_BYTES, restamp, restamp_log_append_time, stamp};
pub use validate::{Limits, Validated, validate, validate_with};
