//! What the log remembers of idempotent producers (KIP-98): epoch, and the last batches with their sequence numbers,
//! so that what is sent again is not stored again. Snapshots are in Kafka's format; behind it, where Kafka does not
//! look, are the older batches of each producer, which Kafka forgets on a restart.

use std::collections::{HashMap, VecDeque};

use millstream_core::ids::ProducerId;
use millstream_kafka::records::{BatchHeader, TimestampType};

use crate::error::AppendError;

/// All producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// When it was last heard of, by the broker's clock: what its records say of the time may be long ago.
    heard_ms: i64,
    /// The last ones, in order.
    batches: VecDeque<Remembered>,
}

/// A batch that may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
    /// Checksum that the batch came with; none where it is not known.
    pub crc: Option<u32>,
}

impl Remembered {
    /// Offset of the first record.
    pub fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

impl Producer {
    /// The batch that one repeats which a partitioner spread; none if it is new. Of the sequence numbers at the entrance
    /// each partition gets only some, so gaps say nothing; the entrance has seen to it that none is missing. What is
    /// not higher than the last has come before, but only if it is the same as then is all of it here: where the
    /// partitioner has changed its mind meanwhile, records of it may be nowhere.
    fn repeated_by_derived(&self, batch: &BatchHeader) -> Result<Option<Remembered>, AppendError> {
        let Some(last) = self.batches.back().filter(|_| batch.producer_epoch == self.epoch) else {
            return Ok(None);
        };
        let ahead = batch.base_sequence.wrapping_sub(last.last_sequence) & i32::MAX;
        if ahead != 0 && ahead < SEQUENCE_HALF {
            return Ok(None);
        }
        let is_same = |known: &&Remembered| {
            known.first_sequence() == batch.base_sequence
                && known.last_sequence == batch.last_sequence()
                && known.crc.is_none_or(|crc| crc == batch.crc)
        };
        match self.batches.iter().find(is_same) {
            Some(known) => Ok(Some(*known)),
            None => Err(AppendError::OutOfOrderSequence {
                producer_id: batch.producer_id,
                sequence: batch.base_sequence,
                expected: last.last_sequence.wrapping_add(1) & i32::MAX,
            }),
        }
    }
}

impl Producers {
    /// Whether the batch may follow: none if so, or the batch that it repeats.
    pub fn check(&self, batch: &BatchHeader) -> Result<Option<Remembered>, AppendError> {
        let Some(producer) = self.by_id.get(&batch.producer_id) else {
            return Ok(None);
        };
        let (producer_id, sequence) = (batch.producer_id, batch.base_sequence);
        if batch.producer_epoch < producer.epoch {
            let (epoch, current) = (batch.producer_epoch, producer.epoch);
            return Err(AppendError::InvalidProducerEpoch {
                producer_id,
                epoch,
                current,
            });
        }
        if sequence < 0 {
            // Control batches carry no sequence.
            return Ok(None);
        }
        if ProducerId(producer_id).is_derived() {
            return producer.repeated_by_derived(batch);
        }
        let expected = if batch.producer_epoch > producer.epoch {
            0
        } else {
            let repeated =
                |b: &&Remembered| b.first_sequence() == sequence && b.last_sequence == batch.last_sequence();
            if let Some(known) = producer.batches.iter().find(repeated) {
                return Ok(Some(*known));
            }
            match producer.batches.back() {
                Some(last) => last.last_sequence.wrapping_add(1) & i32::MAX,
                None => return Ok(None),
            }
        };
        if sequence == expected {
            return Ok(None);
        }
        Err(AppendError::OutOfOrderSequence {
            producer_id,
            sequence,
            expected,
        })
    }

    /// Notes a batch that is in the log at `base_offset`.
    pub fn note(&mut self, batch: &BatchHeader, base_offset: i64, now_ms: i64) {
        if !batch.has_producer_id() {
            return;
        }
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&batch.producer_id) {
            self.forget_the_older_half();
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            heard_ms: now_ms,
            batches: VecDeque::new(),
        });
        if batch.producer_epoch > producer.epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.heard_ms = now_ms;
        if batch.base_sequence < 0 {
            return;
        }
        while producer.batches.len() >= REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            last_sequence: batch.last_sequence(),
            last_offset: base_offset + i64::from(batch.last_offset_delta),
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
            // The checksum of a batch that got its time from the broker is another one each time.
            crc: (batch.attributes.timestamp_type() == TimestampType::CreateTime).then_some(batch.crc),
        });
    }

    /// Makes room where ids are made up: what was heard of lately stays.
    fn forget_the_older_half(&mut self) {
        let mut heard: Vec<(i64, i64)> = self.by_id.iter().map(|(id, p)| (p.heard_ms, *id)).collect();
        let middle = heard.len() / 2;
        heard.select_nth_unstable(middle);
        for (_, id) in &heard[..middle] {
            self.by_id.remove(id);
        }
    }

    /// Forgets producers that were last heard of before `oldest_ms`.
    pub fn expire(&mut self, oldest_ms: i64) {
        self.by_id.retain(|_, producer| producer.heard_ms >= oldest_ms);
    }

    /// Number of producers.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The content of a `.snapshot` file.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(8 + self.by_id.len() * 64);
        body.extend_from_slice(&(self.by_id.len() as i32).to_be_bytes());
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        for id in &ids {
            let producer = &self.by_id[id];
            let last = producer.batches.back().copied().unwrap_or(Remembered {
                last_sequence: -1,
                last_offset: -1,
                offset_delta: 0,
                timestamp: producer.heard_ms,
                crc: None,
            });
            body.extend_from_slice(&id.to_be_bytes());
            body.extend_from_slice(&producer.epoch.to_be_bytes());
            body.extend_from_slice(&last.last_sequence.to_be_bytes());
            body.extend_from_slice(&last.last_offset.to_be_bytes());
            body.extend_from_slice(&last.offset_delta.to_be_bytes());
            body.extend_from_slice(&producer.heard_ms.to_be_bytes());
            body.extend_from_slice(&(-1_i32).to_be_bytes()); // coordinator epoch
            body.extend_from_slice(&(-1_i64).to_be_bytes()); // first offset of an open transaction
        }
        body.extend_from_slice(OLDER);
        for id in &ids {
            let batches = &self.by_id[id].batches;
            body.push(batches.len() as u8);
            for batch in batches {
                body.extend_from_slice(&batch.last_sequence.to_be_bytes());
                body.extend_from_slice(&batch.last_offset.to_be_bytes());
                body.extend_from_slice(&batch.offset_delta.to_be_bytes());
                body.extend_from_slice(&batch.timestamp.to_be_bytes());
                body.extend_from_slice(&batch.crc.map_or(-1, i64::from).to_be_bytes());
            }
        }
        let mut bytes = Vec::with_capacity(body.len() + 6);
        bytes.extend_from_slice(&1_i16.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a `.snapshot` file, ours or Kafka's; none if it is damaged.
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let version = i16::from_be_bytes(fields.take()?);
        let crc = u32::from_be_bytes(fields.take()?);
        if version != 1 || crc != crc32c::crc32c(fields.0) {
            return None;
        }
        let count = i32::from_be_bytes(fields.take()?);
        let mut producers = Self::default();
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = i64::from_be_bytes(fields.take()?);
            let epoch = i16::from_be_bytes(fields.take()?);
            let last_sequence = i32::from_be_bytes(fields.take()?);
            let last_offset = i64::from_be_bytes(fields.take()?);
            let offset_delta = i32::from_be_bytes(fields.take()?);
            let heard_ms = i64::from_be_bytes(fields.take()?);
            let _coordinator_epoch: [u8; 4] = fields.take()?;
            let _transaction: [u8; 8] = fields.take()?;
            let last = Remembered {
                last_sequence,
                last_offset,
                offset_delta,
                timestamp: heard_ms,
                crc: None,
            };
            let batches = (last_sequence >= 0).then_some(last).into_iter().collect();
            producers.by_id.insert(
                id,
                Producer {
                    epoch,
                    heard_ms,
                    batches,
                },
            );
            ids.push(id);
        }
        if fields.0.starts_with(OLDER) {
            fields.0 = &fields.0[OLDER.len()..];
            for id in ids {
                let [count] = fields.take()?;
                let batches = (0..count)
                    .map(|_| fields.remembered())
                    .collect::<Option<VecDeque<_>>>()?;
                producers.by_id.get_mut(&id)?.batches = batches;
            }
        }
        Some(producers)
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn remembered(&mut self) -> Option<Remembered> {
        Some(Remembered {
            last_sequence: i32::from_be_bytes(self.take()?),
            last_offset: i64::from_be_bytes(self.take()?),
            offset_delta: i32::from_be_bytes(self.take()?),
            timestamp: i64::from_be_bytes(self.take()?),
            crc: u32::try_from(i64::from_be_bytes(self.take()?)).ok(),
        })
    }
}

/// Producers of one partition that are remembered.
const PRODUCERS_MAX: usize = 100_000;
/// Batches of each producer that are recognised when they come again: as many as a producer may have under way.
const REMEMBERED_BATCHES: usize = 5;
/// Sequence numbers count to 2^31 - 1 and then from 0: what lies less than half of that ahead is higher.
const SEQUENCE_HALF: i32 = 1 << 30;
/// Begins what we add to Kafka's snapshot.
const OLDER: &[u8] = b"millstream-2";

#[cfg(test)]
mod tests {
    use millstream_kafka::records::BatchBuilder;

    use super::*;

    #[test]
    fn ids_that_are_made_up_do_not_pile_up() {
        let mut builder = BatchBuilder::new().producer(0, 0, 0);
        builder.append(0, None, None, &[]).unwrap();
        let mut header = BatchHeader::parse(&builder.finish().unwrap()).unwrap();
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            header.producer_id = id;
            producers.note(&header, id, id);
        }
        assert_eq!(producers.len(), PRODUCERS_MAX / 2 + 1);
        assert!(producers.check(&header).unwrap().is_some());
        header.producer_id = 0;
        assert!(producers.check(&header).unwrap().is_none());
        let again = Producers::from_snapshot(&producers.to_snapshot()).unwrap();
        assert_eq!(again, producers);
    }
}
