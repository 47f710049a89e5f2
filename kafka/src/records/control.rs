//! Control batches: the markers by which brokers end a transaction in a partition (KIP-98).

use bytes::Bytes;

use super::{BatchBuilder, BatchHeader, Compression, Spans};

/// What a marker says of a producer's transaction: Kafka's `EndTransactionMarker`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransaction {
    /// Its records count; else those who read what is committed skip them.
    pub is_commit: bool,
    /// Fences coordinators that were replaced.
    pub coordinator_epoch: i32,
}

impl EndTransaction {
    /// The control batch with this marker, for a leader to stamp. `timestamp` is in milliseconds.
    pub fn to_batch(&self, producer_id: i64, producer_epoch: i16, timestamp: i64) -> Bytes {
        let kind = if self.is_commit { COMMIT } else { ABORT };
        let mut key = [0; 4];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.to_be_bytes());
        let mut value = [0; 6];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut batch = BatchBuilder::new()
            .producer(producer_id, producer_epoch, -1)
            .transactional(true)
            .control(true);
        batch
            .append(timestamp, Some(&key), Some(&value), &[])
            .and_then(|()| batch.finish())
            .expect("a batch of ten bytes is not too large and has no codec")
    }

    /// The marker in a batch, whose bytes behind the header are `payload`. None for batches of records, and for control
    /// batches of another kind or without a record, as compaction leaves them. Whether the checksum is right is not
    /// looked at.
    #[inline]
    pub fn of(header: &BatchHeader, payload: &[u8]) -> Option<Self> {
        if !header.attributes.is_control() {
            return None;
        }
        Self::parse(header, payload)
    }

    fn parse(header: &BatchHeader, payload: &[u8]) -> Option<Self> {
        // Nobody compresses ten bytes.
        if header.compression() != Compression::None {
            return None;
        }
        let record = Spans::new(payload, header.records_count as u32).next()?.ok()?;
        let &[v0, v1, kind0, kind1, ..] = record.key_in(payload)? else {
            return None;
        };
        let &[w0, w1, ref epoch @ ..] = record.value_in(payload)? else {
            return None;
        };
        // Later versions add fields behind those of the first one.
        if i16::from_be_bytes([v0, v1]) < VERSION || i16::from_be_bytes([w0, w1]) < VERSION {
            return None;
        }
        let is_commit = match i16::from_be_bytes([kind0, kind1]) {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let coordinator_epoch = i32::from_be_bytes(*epoch.first_chunk()?);
        Some(Self {
            is_commit,
            coordinator_epoch,
        })
    }
}

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

#[cfg(test)]
mod tests {
    use super::super::{BatchView, HEADER_BYTES};
    use super::*;

    #[test]
    fn a_marker_reads_back_and_has_kafkas_bytes() {
        for (is_commit, kind) in [(false, 0), (true, 1)] {
            let marker = EndTransaction {
                is_commit,
                coordinator_epoch: 0x0102_0304,
            };
            let bytes = marker.to_batch(7, 3, 1000);
            let batch = BatchView::parse(&bytes).unwrap();
            batch.verify_crc().unwrap();
            let header = batch.header();
            assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (7, 3, -1)
            );
            assert_eq!((header.attributes.0, header.records_count), (0x30, 1));
            let record = [0x20, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 1, 2, 3, 4, 0];
            assert_eq!(batch.payload(), record);
            assert_eq!(EndTransaction::of(header, batch.payload()), Some(marker));
        }
    }

    #[test]
    fn what_is_no_marker_is_none() {
        let control = |key: Option<&[u8]>, value: Option<&[u8]>| {
            let mut batch = BatchBuilder::new().control(true);
            batch.append(0, key, value, &[]).unwrap();
            let bytes = batch.finish().unwrap();
            EndTransaction::of(&BatchHeader::parse(&bytes).unwrap(), &bytes[HEADER_BYTES..])
        };
        let value: &[u8] = &[0, 0, 0, 0, 0, 5];
        assert!(control(Some(&[0, 0, 0, 1]), Some(value)).is_some());
        assert!(control(Some(&[0, 1, 0, 1, 9]), Some(&[0, 1, 0, 0, 0, 5, 9])).is_some());
        let leader_change: &[u8] = &[0, 0, 0, 2];
        for key in [
            None,
            Some(leader_change),
            Some(&[0, 0, 0]),
            Some(&[255, 255, 0, 1]),
        ] {
            assert_eq!(control(key, Some(value)), None);
        }
        for value in [None, Some(&[0, 0, 0, 0, 0][..]), Some(&[255, 255, 0, 0, 0, 5])] {
            assert_eq!(control(Some(&[0, 0, 0, 1]), value), None);
        }
        let bytes = EndTransaction {
            is_commit: true,
            coordinator_epoch: 5,
        }
        .to_batch(7, 0, 0);
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(
            EndTransaction::of(&header, &bytes[HEADER_BYTES..][..10]),
            None,
            "cut short"
        );
        let mut empty = header;
        empty.records_count = 0;
        assert_eq!(EndTransaction::of(&empty, &[]), None, "compacted");
        let mut data = header;
        data.attributes = data.attributes.with_control(false);
        assert_eq!(EndTransaction::of(&data, &bytes[HEADER_BYTES..]), None);
    }
}
