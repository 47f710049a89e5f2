//! What is fetched of one partition: where reading is, what lies ready, and how bytes become records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millstream_kafka::api::fetch::{FetchPartition, PartitionData};
use millstream_kafka::records::{Aborted, BatchHeader, BatchView, HEADER_BYTES, Scratch};

use super::{ConsumedRecord, Isolation};
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub at: TopicPartition,
    topic: Arc<str>,
    isolation: Isolation,
    /// Offset of the next record that the caller gets; `None` until it is known where to begin.
    pub position: Option<i64>,
    /// Offset that the next fetch asks for.
    next_fetch: i64,
    /// Batches that were fetched and not read yet, in order.
    ready: VecDeque<Ready>,
    pub ready_bytes: usize,
    /// Whether a fetch that asked at the end of the log was answered once.
    pub reached_end: bool,
    /// Offset behind the last record that may be read.
    end: i64,
    /// After an error: not to be fetched before.
    pub rests_until: Option<Instant>,
}

/// A batch that was fetched.
#[derive(Debug)]
struct Ready {
    bytes: Bytes,
    /// Its transaction was aborted, and the caller asked for what is committed.
    is_aborted: bool,
}

impl Partition {
    pub fn new(at: TopicPartition, isolation: Isolation) -> Self {
        let topic = Arc::from(at.topic.as_str());
        Self {
            at,
            topic,
            isolation,
            position: None,
            next_fetch: -1,
            ready: VecDeque::new(),
            ready_bytes: 0,
            reached_end: false,
            end: -1,
            rests_until: None,
        }
    }

    /// Reads on at `offset` and forgets what lies ready.
    pub fn seek(&mut self, offset: i64) {
        self.position = Some(offset);
        self.next_fetch = offset;
        self.ready.clear();
        self.ready_bytes = 0;
        self.reached_end = false;
    }

    /// Loses its position: it has to be looked up.
    pub fn lose_position(&mut self) {
        self.position = None;
        self.ready.clear();
        self.ready_bytes = 0;
    }

    /// What to ask for next.
    pub fn question(&self, bytes_max: usize) -> FetchPartition {
        FetchPartition {
            partition: self.at.partition,
            current_leader_epoch: -1,
            fetch_offset: self.next_fetch,
            partition_max_bytes: bytes_max as i32,
            ..Default::default()
        }
    }

    /// Whether `asked` is still what has to be asked: the position was not moved since.
    pub fn awaits(&self, asked: i64) -> bool {
        self.position.is_some() && self.next_fetch == asked
    }

    /// Takes in what a fetch brought. Headers are looked at, records are not.
    pub fn accept(&mut self, data: &PartitionData) -> Result<()> {
        self.end = match self.isolation {
            Isolation::ReadUncommitted => data.high_watermark,
            Isolation::ReadCommitted => data.last_stable_offset,
        };
        let named = data.aborted_transactions.iter().flatten();
        let mut aborted = Aborted::new(named.map(|aborted| (aborted.producer_id, aborted.first_offset)));
        let mut bytes = data
            .records
            .as_ref()
            .and_then(|records| records.bytes())
            .cloned()
            .unwrap_or_default();
        // A broker may cut the last batch off in the middle (KIP-74): it comes whole the next time.
        while let Some(whole) = batch_length(&bytes).filter(|length| *length <= bytes.len()) {
            let batch = bytes.split_to(whole);
            let header = BatchHeader::parse(&batch).map_err(|error| self.damaged(error))?;
            let is_aborted = aborted.has(&header, &batch[HEADER_BYTES..]);
            if header.next_offset() <= self.next_fetch {
                continue;
            }
            self.next_fetch = header.next_offset();
            self.ready_bytes += batch.len();
            self.ready.push_back(Ready {
                bytes: batch,
                is_aborted,
            });
        }
        self.note_end();
        Ok(())
    }

    /// Records of the next batch that has any for the caller; `None` when nothing lies ready.
    pub fn read(
        &mut self,
        scratch: &mut Scratch,
        batch_bytes_max: usize,
    ) -> Result<Option<Vec<ConsumedRecord>>> {
        while let Some(batch) = self.ready.pop_front() {
            self.ready_bytes -= batch.bytes.len();
            let records = self.read_batch(&batch, scratch, batch_bytes_max)?;
            self.note_end();
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }

    fn read_batch(
        &mut self,
        Ready { bytes, is_aborted }: &Ready,
        scratch: &mut Scratch,
        bytes_max: usize,
    ) -> Result<Vec<ConsumedRecord>> {
        let position = self.position.unwrap_or(self.next_fetch);
        let view = BatchView::parse(bytes).map_err(|error| self.damaged(error))?;
        let header = *view.header();
        view.verify_crc().map_err(|error| self.damaged(error))?;
        let mut records = Vec::new();
        // Control batches are the broker's own marks; the caller sees only that offsets move on.
        if !header.attributes.is_control() && !is_aborted {
            for record in view
                .records(scratch, bytes_max)
                .map_err(|error| self.damaged(error))?
            {
                let record = record.map_err(|error| self.damaged(error))?;
                // A batch may begin before the position.
                if record.offset >= position {
                    records.push(self.own(&record));
                }
            }
        }
        self.position = Some(header.next_offset());
        Ok(records)
    }

    fn own(&self, record: &millstream_kafka::records::Record<'_>) -> ConsumedRecord {
        let mut headers = Vec::new();
        for header in record.headers.iter() {
            headers.push((
                String::from_utf8_lossy(header.key).into_owned(),
                header.value.map(Bytes::copy_from_slice),
            ));
        }
        ConsumedRecord {
            topic: self.topic.clone(),
            partition: self.at.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            headers,
        }
    }

    fn note_end(&mut self) {
        self.reached_end |= self.ready.is_empty() && self.position.is_some_and(|at| at >= self.end);
    }

    fn damaged(&self, reason: impl ToString) -> Error {
        Error::DamagedRecords {
            topic: self.at.topic.clone(),
            partition: self.at.partition,
            offset: self.position.unwrap_or(self.next_fetch),
            reason: reason.to_string(),
        }
    }
}

/// Length of the batch that the bytes begin with, as its header says.
fn batch_length(bytes: &[u8]) -> Option<usize> {
    let length = i32::from_be_bytes(bytes.get(8..12)?.try_into().expect("four bytes"));
    usize::try_from(length)
        .ok()?
        .checked_add(millstream_kafka::records::LOG_OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use millstream_kafka::api::fetch::AbortedTransaction;
    use millstream_kafka::records::{BatchBuilder, EndTransaction};
    use millstream_kafka::wire::Payload;

    use super::*;

    fn written(offset: i64, producer: i64, value: &str) -> Vec<u8> {
        let mut batch = BatchBuilder::new()
            .base_offset(offset)
            .producer(producer, 0, 0)
            .transactional(true);
        batch.append(0, None, Some(value.as_bytes()), &[]).unwrap();
        batch.finish().unwrap().to_vec()
    }

    fn ended(offset: i64, producer: i64, is_commit: bool) -> Vec<u8> {
        let marker = EndTransaction {
            is_commit,
            coordinator_epoch: 0,
        };
        let mut batch = marker.to_batch(producer, 0, 0).to_vec();
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        batch
    }

    /// Two producers in turn: 7 aborts its first transaction and commits its second, 8 commits and leaves one open.
    fn answer() -> PartitionData {
        let batches = [
            written(0, 7, "aborted"),
            written(1, 8, "kept"),
            ended(2, 7, false),
            ended(3, 8, true),
            written(4, 7, "kept too"),
            ended(5, 7, true),
        ];
        PartitionData {
            high_watermark: 7,
            last_stable_offset: 6,
            aborted_transactions: Some(vec![AbortedTransaction {
                producer_id: 7,
                first_offset: 0,
                ..Default::default()
            }]),
            records: Some(Payload::from(Bytes::from(batches.concat()))),
            ..Default::default()
        }
    }

    fn values(isolation: Isolation, mut data: PartitionData) -> (Vec<String>, Option<i64>, bool) {
        let mut partition = Partition::new(TopicPartition::new("t", 0), isolation);
        partition.seek(0);
        if isolation == Isolation::ReadUncommitted {
            data.aborted_transactions = None;
        }
        partition.accept(&data).unwrap();
        let mut found = Vec::new();
        while let Some(records) = partition.read(&mut Scratch::default(), 1 << 20).unwrap() {
            let text = |record: ConsumedRecord| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.extend(records.into_iter().map(text));
        }
        (found, partition.position, partition.reached_end)
    }

    #[test]
    fn what_was_aborted_is_left_out_where_what_is_committed_is_read() {
        let (found, position, at_end) = values(Isolation::ReadCommitted, answer());
        assert_eq!(found, ["kept", "kept too"]);
        assert_eq!((position, at_end), (Some(6), true));
    }

    #[test]
    fn who_reads_everything_is_at_the_end_behind_what_is_open() {
        let (found, position, at_end) = values(Isolation::ReadUncommitted, answer());
        assert_eq!(found, ["aborted", "kept", "kept too"]);
        assert_eq!((position, at_end), (Some(6), false));
    }
}
