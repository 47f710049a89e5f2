//! What becomes of a batch that has passed its ingest plugins: one batch for the partition that it came in by, or one for
//! each partition that a partitioner chose.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_core::ids::{PartitionIndex, ProducerId, TopicName};
use millstream_kafka::records::{BatchBuilder, BatchHeader, BuildError, Compression};

use super::chain::Sink;
use super::dead_letter::DeadLetters;
use super::seat::Running;
use super::slice::Outgoing;

/// Builds what is to be stored.
#[derive(Debug)]
pub struct Built {
    way: Way,
    header: BatchHeader,
    codec: Compression,
    entrance: PartitionIndex,
    /// Whether anything differs from the batch that came in.
    has_changed: bool,
    records: u32,
    letters: DeadLetters,
}

#[derive(Debug)]
enum Way {
    /// Records keep their places in the batch, so that sequence numbers stay what they are for the producer: what is
    /// left out leaves a hole, as compaction does.
    Through(Box<BatchBuilder>),
    /// Records are put together anew, by partition.
    Spread(BTreeMap<u32, BatchBuilder>),
}

/// What is to be stored of a batch.
#[derive(Debug)]
pub enum ToStore {
    /// The batch as it came in.
    Same,
    /// Another one in its place.
    Changed(Bytes),
    /// One for each of these partitions.
    Spread(Vec<(u32, Bytes)>),
}

impl Built {
    /// Begins what is to be stored of the batch with `header`.
    pub fn new(header: &BatchHeader, codec: Compression, entrance: PartitionIndex, is_spread: bool) -> Self {
        let way = match is_spread {
            true => Way::Spread(BTreeMap::new()),
            false => Way::Through(Box::new(BatchBuilder::like(header).compression(codec))),
        };
        Self {
            way,
            header: *header,
            codec,
            entrance,
            has_changed: false,
            records: 0,
            letters: DeadLetters::default(),
        }
    }

    /// What is to be stored, and the records that are not.
    ///
    /// # Errors
    /// It would be too large to be a batch.
    pub fn finish(self) -> Result<(ToStore, DeadLetters), BuildError> {
        let to_store = match self.way {
            Way::Through(_) if !self.has_changed && self.records == self.header.records_count as u32 => {
                ToStore::Same
            }
            Way::Through(builder) => ToStore::Changed(builder.finish()?),
            Way::Spread(builders) => {
                let batches = builders
                    .into_iter()
                    .map(|(target, builder)| Ok((target, builder.finish()?)));
                ToStore::Spread(batches.collect::<Result<_, BuildError>>()?)
            }
        };
        Ok((to_store, self.letters))
    }

    /// A batch for one partition, which begins with the record at `delta`.
    fn begin(&self, delta: i32) -> BatchBuilder {
        let header = &self.header;
        let builder = BatchBuilder::new()
            .compression(self.codec)
            .transactional(header.attributes.is_transactional());
        match ProducerId(header.producer_id).at_entrance(self.entrance) {
            Some(id) if header.base_sequence >= 0 => {
                let sequence = header.base_sequence.wrapping_add(delta) & i32::MAX;
                builder.producer(id.0, header.producer_epoch, sequence)
            }
            _ => builder,
        }
    }
}

impl Sink for Built {
    fn record(&mut self, record: &Outgoing<'_>) -> Result<(), BuildError> {
        self.records += 1;
        let Outgoing {
            delta,
            timestamp_ms,
            key,
            value,
            headers,
            target,
            original,
        } = *record;
        let target = target.unwrap_or(self.entrance.0 as u32);
        let fresh = match &self.way {
            Way::Spread(builders) if !builders.contains_key(&target) => Some(self.begin(delta)),
            _ => None,
        };
        match &mut self.way {
            Way::Through(builder) => match original {
                Some((span, data)) => builder.append_encoded(span, data),
                None => {
                    self.has_changed = true;
                    builder.append_raw(delta, timestamp_ms, key, value, headers)
                }
            },
            Way::Spread(builders) => {
                let builder = builders
                    .entry(target)
                    .or_insert_with(|| fresh.unwrap_or_default());
                let next = builder.len() as i32;
                builder.append_raw(next, timestamp_ms, key, value, headers)
            }
        }
    }

    fn dead_letter(
        &mut self,
        to: &TopicName,
        by: &Running,
        record: &Outgoing<'_>,
        reason: &str,
    ) -> Result<(), BuildError> {
        self.letters.add(to, by, record, reason);
        Ok(())
    }

    fn bytes(&self) -> usize {
        let built: usize = match &self.way {
            Way::Through(builder) => builder.bytes(),
            Way::Spread(builders) => builders.values().map(BatchBuilder::bytes).sum(),
        };
        built + self.letters.bytes()
    }
}
