//! Reading a partition of `__consumer_offsets` when its coordinator starts.

use std::sync::Arc;

use millstream_core::group::{GroupConfig, Groups, Record, RecordError};
use millstream_core::ids::Offset;
use millstream_kafka::records::{BatchView, Scratch, batches};

use crate::partitions::{Partition, ReadOutcome};

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk or the log refused.
    #[error("offset {0}: {1}")]
    Read(Offset, String),
    /// A batch is damaged.
    #[error("batch at offset {0}: {1}")]
    Batch(Offset, String),
}

/// Reads the whole partition. Blocks. Says how many records it has.
///
/// # Errors
/// The log cannot be read. A record of a kind that is not known is skipped, as Kafka does, and told.
pub fn read(partition: &Arc<Partition>, config: GroupConfig) -> Result<(Groups, usize), LoadError> {
    let mut groups = Groups::new(config);
    let mut records = 0;
    let mut scratch = Scratch::default();
    let mut offset = partition.watermarks().log_start;
    loop {
        let outcome = partition.read(offset, READ_BYTES, true);
        let ReadOutcome { slice, .. } =
            outcome.map_err(|error| LoadError::Read(offset, error.to_string()))?;
        let Some(slice) = slice else {
            return Ok((groups, records));
        };
        let bytes = slice
            .read_blocking()
            .map_err(|error| LoadError::Read(offset, error.to_string()))?;
        let before = offset;
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| LoadError::Batch(offset, error.to_string()))?;
            records += replay_batch(&mut groups, &batch, &mut scratch)
                .map_err(|error| LoadError::Batch(offset, error.to_string()))?;
            offset = Offset(batch.header().base_offset + i64::from(batch.header().last_offset_delta) + 1);
        }
        if offset <= before {
            return Err(LoadError::Read(
                offset,
                "the log gives the same batch again".to_owned(),
            ));
        }
    }
}

fn replay_batch(
    groups: &mut Groups,
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
) -> Result<usize, millstream_kafka::records::BatchError> {
    if batch.header().attributes.is_control() {
        return Ok(0);
    }
    let mut count = 0;
    for record in batch.records(scratch, BATCH_BYTES_MAX)? {
        let record = record?;
        count += 1;
        match Record::decode(record.key.unwrap_or_default(), record.value) {
            Ok(decoded) => groups.replay(&decoded),
            Err(RecordError::Version(version)) => {
                tracing::debug!(
                    offset = record.offset,
                    version,
                    "skipped a record of another kind of group"
                );
            }
            Err(error) => {
                tracing::warn!(offset = record.offset, %error, "skipped a damaged record of a group");
            }
        }
    }
    Ok(count)
}

/// Bytes that are read at a time.
const READ_BYTES: usize = 1024 * 1024;
/// Largest batch of records of groups, decompressed.
const BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;
