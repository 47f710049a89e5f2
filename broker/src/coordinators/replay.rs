//! Reading a partition of an internal topic when its coordinator starts.

use std::sync::Arc;

use millstream_core::group::{Groups, Record, RecordError};
use millstream_core::ids::Offset;
use millstream_kafka::records::{BatchError, BatchView, EndTransaction, Scratch, batches};

use super::machine::Machine;
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

/// Reads the whole partition into a state machine that knows nothing yet. Blocks. Says how many records it has.
///
/// # Errors
/// The log cannot be read.
pub fn read<M: Machine>(partition: &Arc<Partition>, mut machine: M) -> Result<(M, usize), LoadError> {
    let mut records = 0;
    let mut scratch = Scratch::default();
    let mut offset = partition.watermarks().log_start;
    loop {
        let outcome = partition.read(offset, READ_BYTES, true);
        let ReadOutcome { slice, .. } =
            outcome.map_err(|error| LoadError::Read(offset, error.to_string()))?;
        let Some(slice) = slice else {
            return Ok((machine, records));
        };
        let bytes = slice
            .read_blocking()
            .map_err(|error| LoadError::Read(offset, error.to_string()))?;
        let before = offset;
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| LoadError::Batch(offset, error.to_string()))?;
            records += machine
                .read(&batch, &mut scratch)
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

/// Takes over a batch of a log of groups, and says how many records it has. A record of a kind that is not known is
/// skipped, as Kafka does, and told.
///
/// # Errors
/// The batch is damaged.
pub(super) fn replay_batch(
    groups: &mut Groups,
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
) -> Result<usize, BatchError> {
    let header = batch.header();
    if header.attributes.is_control() {
        let end = EndTransaction::of(header, batch.payload());
        if let Some(EndTransaction { is_commit, .. }) = end {
            groups.replay_marker(header.producer_id, is_commit);
        }
        return Ok(usize::from(end.is_some()));
    }
    let producer_id = header.attributes.is_transactional().then_some(header.producer_id);
    each_record(batch, scratch, |offset, key, value| {
        match Record::decode(key, value) {
            Ok(decoded) => match producer_id {
                Some(producer_id) => groups.replay_pending(producer_id, &decoded),
                None => groups.replay(&decoded),
            },
            Err(RecordError::Version(version)) => {
                tracing::debug!(offset, version, "skipped a record of another kind of group");
            }
            Err(error) => {
                tracing::warn!(offset, %error, "skipped a damaged record of a group");
            }
        }
    })
}

/// Hands each record's offset, key and value to `take`, and says how many there are.
///
/// # Errors
/// The batch is damaged.
pub(super) fn each_record(
    batch: &BatchView<'_>,
    scratch: &mut Scratch,
    mut take: impl FnMut(i64, &[u8], Option<&[u8]>),
) -> Result<usize, BatchError> {
    let mut count = 0;
    for record in batch.records(scratch, BATCH_BYTES_MAX)? {
        let record = record?;
        count += 1;
        take(record.offset, record.key.unwrap_or_default(), record.value);
    }
    Ok(count)
}

/// Bytes that are read at a time.
const READ_BYTES: usize = 1024 * 1024;
/// Largest batch of an internal topic, decompressed.
const BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use millstream_core::group::{GroupConfig, Key, OffsetValue, Value};
    use millstream_kafka::records::{BatchBuilder, Compression};

    use super::*;

    /// The batches of a log, read one after the other.
    #[derive(Default)]
    struct Reading {
        groups: Groups,
        scratch: Scratch,
        records: usize,
    }

    impl Reading {
        fn read(&mut self, bytes: &[u8]) {
            let batch = BatchView::parse(bytes).unwrap();
            self.records += replay_batch(&mut self.groups, &batch, &mut self.scratch).unwrap();
        }

        fn plain(&mut self, offset: i64) {
            self.read(&batch(BatchBuilder::new(), offset));
        }

        fn of_transaction(&mut self, producer_id: i64, offset: i64) {
            let builder = BatchBuilder::new()
                .producer(producer_id, 0, -1)
                .transactional(true);
            self.read(&batch(builder.compression(Compression::Gzip), offset));
        }

        fn marker(&mut self, producer_id: i64, is_commit: bool) {
            let end = EndTransaction {
                is_commit,
                coordinator_epoch: 3,
            };
            self.read(&end.to_batch(producer_id, 0, 1000));
        }

        fn offset(&self) -> Option<i64> {
            self.groups.offset("g", "t", 0).map(|value| value.offset)
        }

        fn is_stable(&self) -> bool {
            self.groups.fetch_offset("g", "t", 0, true).is_ok()
        }
    }

    fn batch(mut builder: BatchBuilder, offset: i64) -> Vec<u8> {
        let value = OffsetValue {
            offset,
            leader_epoch: 0,
            metadata: String::new(),
            commit_ms: 1000,
            expire_ms: -1,
        };
        let record = Record {
            key: Key::Offset {
                group: "g".into(),
                topic: "t".into(),
                partition: 0,
            },
            value: Some(Value::Offset(value)),
        };
        let (key, value) = record.encode();
        builder.append(1000, Some(&key), value.as_deref(), &[]).unwrap();
        builder.finish().unwrap().to_vec()
    }

    #[test]
    fn offsets_of_a_transaction_count_from_its_marker_on() {
        let mut log = Reading::default();
        log.plain(1);
        log.of_transaction(7, 2);
        log.of_transaction(8, 3);
        assert_eq!((log.offset(), log.is_stable()), (Some(1), false));
        log.marker(7, true);
        assert_eq!((log.offset(), log.is_stable()), (Some(2), false));
        log.marker(8, false);
        assert_eq!((log.offset(), log.is_stable()), (Some(2), true));
        assert!(!log.groups.has_pending());
        assert_eq!(log.records, 5);
    }

    #[test]
    fn a_producer_without_a_transaction_commits_at_once() {
        let mut log = Reading::default();
        log.read(&batch(BatchBuilder::new().producer(7, 0, 0), 5));
        assert_eq!((log.offset(), log.is_stable()), (Some(5), true));
    }

    #[test]
    fn control_batches_that_end_nothing_are_skipped() {
        let mut log = Reading::default();
        log.of_transaction(7, 2);
        let mut leader_change = BatchBuilder::new().producer(7, 0, -1).control(true);
        leader_change
            .append(1000, Some(&[0, 0, 0, 2]), Some(&[0, 0]), &[])
            .unwrap();
        log.read(&leader_change.finish().unwrap());
        log.marker(9, true);
        assert_eq!((log.offset(), log.is_stable()), (None, false));
        log.marker(7, true);
        assert_eq!((log.offset(), log.is_stable()), (Some(2), true));
    }

    #[test]
    fn what_is_no_record_of_a_group_does_not_stop_the_reading() {
        let mut groups = Groups::new(GroupConfig::default());
        let mut builder = BatchBuilder::new().producer(7, 0, -1).transactional(true);
        for key in [&[0, 99][..], &[0, 1, 0], &[]] {
            builder.append(1000, Some(key), Some(&[1]), &[]).unwrap();
        }
        let bytes = builder.finish().unwrap();
        let batch = BatchView::parse(&bytes).unwrap();
        let count = replay_batch(&mut groups, &batch, &mut Scratch::default()).unwrap();
        assert_eq!((count, groups.has_pending()), (3, false));
    }
}
