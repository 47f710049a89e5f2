//! What the log remembers of idempotent producers (KIP-98): epoch, the last batches with their sequence numbers, so that
//! what is sent again is not stored again, and where the transaction began that is open.

mod open;
mod snapshot;
mod unreplicated;

use std::collections::{HashMap, VecDeque};

use millstream_core::ids::{Offset, ProducerId};
use millstream_core::mutation::{Mutation, is_on};
use millstream_kafka::records::{BatchHeader, EndTransaction, TimestampType};

use self::open::Open;
use self::unreplicated::{Ended, Unreplicated};
use crate::aborted::Aborted;
use crate::error::AppendError;

/// All producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
    open: Open,
    /// Transactions that ended lately.
    ended: Unreplicated,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// When it was last heard of, by the broker's clock: what its records say of the time may be long ago.
    heard_ms: i64,
    /// The last ones, in order.
    batches: VecDeque<Remembered>,
    /// Of the last marker; -1 before the first.
    coordinator_epoch: i32,
    /// First offset of its open transaction.
    transaction_start: Option<i64>,
}

/// What the log knows of a producer (Kafka's `DescribeProducers`, KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// Who.
    pub id: i64,
    /// Largest epoch seen.
    pub epoch: i16,
    /// Of the last batch in that epoch; -1 before the first.
    pub last_sequence: i32,
    /// When it was last heard of by the broker's clock, or when the log was opened since.
    pub last_timestamp_ms: i64,
    /// Epoch of the coordinator that wrote its last marker; -1 before the first.
    pub coordinator_epoch: i32,
    /// First offset of its transaction, if one is open.
    pub transaction_start: Option<Offset>,
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
            return self.check_transaction(batch, None);
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
            // What brokers write for a producer has no numbers, and is never sent again.
            return self.check_transaction(batch, producer.transaction_start);
        }
        if ProducerId(producer_id).is_derived() {
            return match producer.repeated_by_derived(batch)? {
                None => self.check_transaction(batch, producer.transaction_start),
                repeated => Ok(repeated),
            };
        }
        let expected = if batch.producer_epoch > producer.epoch {
            0
        } else {
            let repeated =
                |b: &&Remembered| b.first_sequence() == sequence && b.last_sequence == batch.last_sequence();
            if let Some(known) = producer.batches.iter().find(repeated) {
                return Ok(Some(*known));
            }
            // A marker began the epoch where there is none.
            let last = producer.batches.back().map_or(-1, |last| last.last_sequence);
            last.wrapping_add(1) & i32::MAX
        };
        if sequence == expected {
            return self.check_transaction(batch, producer.transaction_start);
        }
        Err(AppendError::OutOfOrderSequence {
            producer_id,
            sequence,
            expected,
        })
    }

    /// Whether a batch with the right sequence number may follow as far as transactions go: there may be only so many,
    /// and while one is open, all that its producer writes is part of it.
    #[inline]
    fn check_transaction(
        &self,
        batch: &BatchHeader,
        transaction_start: Option<i64>,
    ) -> Result<Option<Remembered>, AppendError> {
        match (batch.attributes.is_transactional(), transaction_start) {
            (true, None) if self.open.len() >= OPEN_TRANSACTIONS_MAX => {
                Err(AppendError::TooManyTransactions {
                    limit: OPEN_TRANSACTIONS_MAX,
                })
            }
            (false, Some(_)) => Err(AppendError::InvalidTransactionState {
                producer_id: batch.producer_id,
            }),
            _ => Ok(None),
        }
    }

    /// Whether a marker may follow; `bumps_epoch` as in [`crate::EndMarker`].
    pub fn check_marker(
        &self,
        (producer_id, producer_epoch): (i64, i16),
        marker: &EndTransaction,
        bumps_epoch: bool,
    ) -> Result<(), AppendError> {
        let Some(producer) = self.by_id.get(&producer_id) else {
            return Ok(());
        };
        let is_of_before = bumps_epoch
            && producer_epoch == producer.epoch
            && producer.transaction_start.is_some()
            && !is_on(Mutation::MarkerAgain);
        if producer_epoch < producer.epoch || is_of_before {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id,
                epoch: producer_epoch,
                current: producer.epoch,
            });
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(AppendError::TransactionCoordinatorFenced {
                producer_id,
                epoch: marker.coordinator_epoch,
                current: producer.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Notes a batch that is in the log at `base_offset`.
    pub fn note(&mut self, batch: &BatchHeader, base_offset: i64, now_ms: i64) {
        if !batch.has_producer_id() {
            return;
        }
        let (producer, open) = self.heard_of(batch, now_ms);
        if batch.attributes.is_control() {
            return;
        }
        if batch.attributes.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base_offset);
            open.begin(batch.producer_id, base_offset);
        }
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

    /// Notes the marker in `batch`, which is in the log: the transaction, if one is open, has ended. Gives what readers
    /// have to know of it if it was aborted.
    pub fn note_marker(
        &mut self,
        batch: &BatchHeader,
        marker: &EndTransaction,
        now_ms: i64,
    ) -> Option<Aborted> {
        if !batch.has_producer_id() {
            return None;
        }
        let (producer, open) = self.heard_of(batch, now_ms);
        producer.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = producer.transaction_start.take()?;
        open.end(batch.producer_id, first_offset);
        let last_offset = batch.base_offset;
        let last_stable_offset = open.first().unwrap_or(last_offset + 1);
        self.ended.push(Ended {
            first_offset,
            marker: last_offset,
        });
        (!marker.is_commit).then_some(Aborted {
            producer_id: batch.producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    }

    /// The producer of `batch`, in the batch's epoch at least, and the transactions that are open.
    #[inline]
    fn heard_of(&mut self, batch: &BatchHeader, now_ms: i64) -> (&mut Producer, &mut Open) {
        if self.by_id.len() >= PRODUCERS_MAX && !self.by_id.contains_key(&batch.producer_id) {
            self.forget_the_older_half();
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            heard_ms: now_ms,
            batches: VecDeque::new(),
            coordinator_epoch: -1,
            transaction_start: None,
        });
        if batch.producer_epoch > producer.epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.heard_ms = now_ms;
        (producer, &mut self.open)
    }

    /// The first offset of a transaction that is open, or whose marker lies at `high` or behind it. `high` must not go
    /// back but by a truncation.
    pub fn first_unstable(&mut self, high: i64) -> Option<i64> {
        let ended = self.ended.first_behind(high);
        let ended = ended.filter(|_| !is_on(Mutation::UnreplicatedMarkers));
        ended.into_iter().chain(self.open.first()).min()
    }

    /// Whether the producer has a transaction open in this very epoch.
    pub fn has_open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        let producer = self.by_id.get(&producer_id);
        producer.is_some_and(|producer| producer.epoch == epoch && producer.transaction_start.is_some())
    }

    /// The ids under which a partitioner has spread records of a producer here whose transaction is open, in no later
    /// epoch than that.
    pub fn open_spread(&self, producer_id: i64, epoch: i16) -> Vec<i64> {
        let derived = self.open.spread_of(producer_id);
        derived
            .filter(|id| self.by_id.get(id).is_some_and(|producer| producer.epoch <= epoch))
            .collect()
    }

    /// Number of transactions that are open.
    pub fn open_transactions(&self) -> usize {
        self.open.len()
    }

    /// Whether anything is known of the producer.
    pub fn knows(&self, producer_id: i64) -> bool {
        self.by_id.contains_key(&producer_id)
    }

    /// What is known of all producers, in no order.
    pub fn states(&self) -> impl Iterator<Item = ProducerState> {
        self.by_id.iter().map(|(id, producer)| ProducerState {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp_ms: producer.heard_ms,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction_start.map(Offset),
        })
    }

    /// Makes room where ids are made up: what was heard of lately stays, and who has a transaction open.
    fn forget_the_older_half(&mut self) {
        let idle = self
            .by_id
            .iter()
            .filter(|(_, producer)| producer.transaction_start.is_none());
        let mut heard: Vec<(i64, i64)> = idle.map(|(id, producer)| (producer.heard_ms, *id)).collect();
        let middle = heard.len() / 2;
        if middle > 0 {
            heard.select_nth_unstable(middle);
        }
        for (_, id) in &heard[..middle] {
            self.by_id.remove(id);
        }
    }

    /// Forgets producers that were last heard of before `oldest_ms`, unless they have a transaction open.
    pub fn expire(&mut self, oldest_ms: i64) {
        self.by_id
            .retain(|_, producer| producer.heard_ms >= oldest_ms || producer.transaction_start.is_some());
    }

    /// Number of producers.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// Producers of one partition that are remembered.
const PRODUCERS_MAX: usize = 100_000;
/// Transactions that may be open in one partition: what is remembered because of them leaves room for others.
const OPEN_TRANSACTIONS_MAX: usize = PRODUCERS_MAX / 2;
/// Batches of each producer that are recognised when they come again: as many as a producer may have under way.
const REMEMBERED_BATCHES: usize = 5;
/// Sequence numbers count to 2^31 - 1 and then from 0: what lies less than half of that ahead is higher.
const SEQUENCE_HALF: i32 = 1 << 30;

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

    #[test]
    fn open_transactions_are_never_forgotten_and_there_are_only_so_many() {
        let mut builder = BatchBuilder::new().producer(0, 0, 0).transactional(true);
        builder.append(0, None, None, &[]).unwrap();
        let mut header = BatchHeader::parse(&builder.finish().unwrap()).unwrap();
        let mut plain = header;
        plain.attributes = plain.attributes.with_transactional(false);
        let mut producers = Producers::default();
        for id in 0..OPEN_TRANSACTIONS_MAX as i64 {
            header.producer_id = id;
            assert!(producers.check(&header).unwrap().is_none());
            producers.note(&header, id, id);
        }
        header.producer_id = PRODUCERS_MAX as i64;
        let refused = producers.check(&header);
        assert!(matches!(refused, Err(AppendError::TooManyTransactions { .. })));
        for id in 0..2 * PRODUCERS_MAX as i64 {
            plain.producer_id = header.producer_id + id;
            assert!(
                producers.check(&plain).unwrap().is_none(),
                "others are not held up"
            );
            producers.note(&plain, OPEN_TRANSACTIONS_MAX as i64 + id, id);
        }
        assert!(producers.len() <= PRODUCERS_MAX);
        assert_eq!(producers.open.len(), OPEN_TRANSACTIONS_MAX);
        assert!((0..OPEN_TRANSACTIONS_MAX as i64).all(|id| producers.has_open_transaction(id, 0)));
        header.producer_id = 0;
        header.base_offset = 1_000_000;
        let marker = EndTransaction {
            is_commit: false,
            coordinator_epoch: 0,
        };
        let aborted = producers.note_marker(&header, &marker, 0).unwrap();
        assert_eq!((aborted.first_offset, aborted.last_stable_offset), (0, 1));
        header.producer_id = PRODUCERS_MAX as i64 * 9;
        assert!(
            producers.check(&header).unwrap().is_none(),
            "one ended, one may begin"
        );
        let again = Producers::from_snapshot(&producers.to_snapshot()).unwrap();
        assert_eq!(again, producers);
    }

    #[test]
    fn whatever_a_snapshot_holds_it_is_read_or_refused() {
        let mut random = crate::sim_disk::Random(11);
        for _ in 0..2000 {
            let mut bytes = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, random.below(3) as u8];
            bytes.extend((0..random.below(200)).map(|_| random.next_u64() as u8));
            if random.below(2) == 0 {
                bytes.truncate(10);
                bytes[9] = 0;
                bytes.extend_from_slice(b"millstream-2");
                bytes.extend((0..random.below(60)).map(|_| random.below(3) as u8));
            }
            let crc = crc32c::crc32c(&bytes[6..]);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
            if let Some(mut producers) = Producers::from_snapshot(&bytes) {
                producers.first_unstable(5);
                producers.to_snapshot();
            }
        }
    }
}
