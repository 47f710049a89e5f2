//! What is fetched of one partition: where reading is, what lies ready, and how bytes become records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millstream_kafka::api::fetch::{FetchPartition, PartitionData};
use millstream_kafka::records::{BatchHeader, BatchView, Scratch};

use super::ConsumedRecord;
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub at: TopicPartition,
    topic: Arc<str>,
    /// Offset of the next record that the caller gets; `None` until it is known where to begin.
    pub position: Option<i64>,
    /// Offset that the next fetch asks for.
    next_fetch: i64,
    /// Batches that were fetched and not read yet, in order.
    ready: VecDeque<Bytes>,
    pub ready_bytes: usize,
    /// Whether a fetch that asked at the end of the log was answered once.
    pub reached_end: bool,
    high_watermark: i64,
    /// After an error: not to be fetched before.
    pub rests_until: Option<Instant>,
}

impl Partition {
    pub fn new(at: TopicPartition) -> Self {
        let topic = Arc::from(at.topic.as_str());
        Self {
            at,
            topic,
            position: None,
            next_fetch: -1,
            ready: VecDeque::new(),
            ready_bytes: 0,
            reached_end: false,
            high_watermark: -1,
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
        self.high_watermark = data.high_watermark;
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
            if header.next_offset() <= self.next_fetch {
                continue;
            }
            self.next_fetch = header.next_offset();
            self.ready_bytes += batch.len();
            self.ready.push_back(batch);
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
            self.ready_bytes -= batch.len();
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
        batch: &Bytes,
        scratch: &mut Scratch,
        bytes_max: usize,
    ) -> Result<Vec<ConsumedRecord>> {
        let position = self.position.unwrap_or(self.next_fetch);
        let view = BatchView::parse(batch).map_err(|error| self.damaged(error))?;
        let header = *view.header();
        view.verify_crc().map_err(|error| self.damaged(error))?;
        let mut records = Vec::new();
        // Control batches are the broker's own marks; the caller sees only that offsets move on.
        if !header.attributes.is_control() {
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
        self.reached_end |=
            self.ready.is_empty() && self.position.is_some_and(|at| at >= self.high_watermark);
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
