//! Sequences of idempotent producers where a partitioner lets records in (KIP-98).
//!
//! The partitions that the records go to see only parts of a producer's sequence, and cannot tell what is missing from
//! what went elsewhere. So the entrance checks that no batch is left out: a batch that comes too early is refused, as a
//! partition's log would, and the producer sends again in order. A batch that is known to be stored is not stored again,
//! whatever the partitioner would say of it now. What is remembered is lost when the broker ends; then a producer may go
//! on anywhere, as with a log that has forgotten it, and the partitions tell what came before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use millstream_kafka::ErrorCode;
use millstream_kafka::records::BatchHeader;
use uuid::Uuid;

use crate::ingest::Refusal;

/// What is known of the producers at all entrances.
#[derive(Debug, Default)]
pub struct Entrances {
    producers: Mutex<HashMap<Key, Producer, foldhash::fast::RandomState>>,
}

/// Topic, partition, producer.
type Key = (Uuid, i32, i64);

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// First and last sequence numbers of the last batches, in order.
    batches: VecDeque<(i32, i32)>,
    /// Where there is none yet: the first sequence number of the batch that could not be stored, and will come again.
    missing: Option<i32>,
    /// The last epoch in which the partition was found to belong to its transaction.
    joined: Option<i16>,
    used_ms: i64,
}

impl Entrances {
    /// Whether the batch may come in now: true if it did before, and all its records are where they belong.
    ///
    /// # Errors
    /// A batch before it is missing, or the producer was fenced.
    pub fn check(&self, topic: Uuid, partition: i32, batch: &BatchHeader) -> Result<bool, Refusal> {
        let producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        let id = batch.producer_id;
        let Some(producer) = producers.get(&(topic, partition, id)) else {
            return Ok(false);
        };
        let (epoch, sequence) = (batch.producer_epoch, batch.base_sequence);
        if epoch < producer.epoch {
            let message = format!(
                "producer {id} has epoch {epoch}, the partition has seen {}",
                producer.epoch
            );
            return Err(Refusal::new(ErrorCode::InvalidProducerEpoch, message));
        }
        let expected = match producer.batches.back() {
            _ if epoch > producer.epoch => 0,
            Some((_, last)) => last.wrapping_add(1) & i32::MAX,
            None => match producer.missing {
                Some(missing) => missing,
                None => return Ok(false),
            },
        };
        if epoch == producer.epoch && producer.batches.contains(&(sequence, batch.last_sequence())) {
            return Ok(true);
        }
        if sequence == expected {
            return Ok(false);
        }
        let message = format!("producer {id} sent sequence {sequence}, expected is {expected}");
        Err(Refusal::new(ErrorCode::OutOfOrderSequenceNumber, message))
    }

    /// Notes a batch that was not stored, or not all of it, and will be sent again: those behind it have to wait, also
    /// where nothing else is known of the producer.
    pub fn miss(&self, topic: Uuid, partition: i32, batch: &BatchHeader, now_ms: i64) {
        self.producer(topic, partition, batch, now_ms, |producer| {
            if producer.batches.is_empty() && producer.epoch == batch.producer_epoch {
                producer.missing.get_or_insert(batch.base_sequence);
            }
        });
    }

    /// Notes a batch of which all records are where they belong.
    pub fn note(&self, topic: Uuid, partition: i32, batch: &BatchHeader, now_ms: i64) {
        self.producer(topic, partition, batch, now_ms, |producer| {
            if batch.producer_epoch > producer.epoch {
                producer.epoch = batch.producer_epoch;
                producer.batches.clear();
            }
            let numbers = (batch.base_sequence, batch.last_sequence());
            if producer.batches.contains(&numbers) {
                return;
            }
            if producer.batches.len() == REMEMBERED_BATCHES {
                producer.batches.pop_front();
            }
            producer.batches.push_back(numbers);
        });
    }

    /// Whether the coordinator has said that the partition belongs to a transaction of the batch's producer in this epoch.
    /// It may be over by now: the partitions that records go to find that out.
    pub fn has_joined(&self, topic: Uuid, partition: i32, batch: &BatchHeader) -> bool {
        let producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        let producer = producers.get(&(topic, partition, batch.producer_id));
        producer.is_some_and(|producer| producer.joined == Some(batch.producer_epoch))
    }

    /// Notes that the coordinator has said so.
    pub fn join(&self, topic: Uuid, partition: i32, batch: &BatchHeader, now_ms: i64) {
        self.producer(topic, partition, batch, now_ms, |producer| {
            producer.joined = Some(batch.producer_epoch);
        });
    }

    fn producer(
        &self,
        topic: Uuid,
        partition: i32,
        batch: &BatchHeader,
        now_ms: i64,
        change: impl FnOnce(&mut Producer),
    ) {
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (topic, partition, batch.producer_id);
        if producers.len() >= PRODUCERS_MAX && !producers.contains_key(&key) {
            forget_the_older_half(&mut producers);
        }
        let producer = producers.entry(key).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            batches: VecDeque::new(),
            missing: None,
            joined: None,
            used_ms: now_ms,
        });
        producer.used_ms = now_ms;
        change(producer);
    }
}

fn forget_the_older_half(producers: &mut HashMap<Key, Producer, foldhash::fast::RandomState>) {
    let mut times: Vec<i64> = producers.values().map(|producer| producer.used_ms).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let mut left = middle;
    producers.retain(|_, producer| {
        let goes = producer.used_ms <= *median && left > 0;
        left -= usize::from(goes);
        !goes
    });
}

/// Batches of each producer that are recognised when they come again: as many as a producer may have under way.
const REMEMBERED_BATCHES: usize = 5;
/// Producers that are remembered, over all topics.
const PRODUCERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use millstream_kafka::records::BatchBuilder;

    use super::*;

    fn header(id: i64, epoch: i16, sequence: i32, records: usize) -> BatchHeader {
        let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
        for _ in 0..records {
            builder.append(0, None, None, &[]).unwrap();
        }
        BatchHeader::parse(&builder.finish().unwrap()).unwrap()
    }

    #[test]
    fn a_batch_that_comes_too_early_waits_for_the_one_before_it() {
        let entrances = Entrances::default();
        let check = |header: &BatchHeader| {
            entrances
                .check(Uuid::nil(), 0, header)
                .map_err(|refusal| refusal.code)
        };
        let first = header(1, 0, 100, 10);
        assert_eq!(check(&first), Ok(false), "an unknown producer begins anywhere");
        entrances.note(Uuid::nil(), 0, &first, 0);
        assert_eq!(
            check(&header(1, 0, 120, 5)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(check(&header(1, 0, 110, 10)), Ok(false));
        assert_eq!(check(&first), Ok(true), "sent again");
        assert_eq!(
            check(&header(1, 0, 100, 9)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        entrances.note(Uuid::nil(), 0, &header(1, 1, 0, 1), 0);
        assert_eq!(check(&first), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(
            check(&header(1, 2, 3, 1)),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            entrances.check(Uuid::nil(), 1, &header(1, 0, 7, 1)),
            Ok(false),
            "another entrance"
        );
    }

    #[test]
    fn what_comes_behind_a_first_batch_that_failed_waits_for_it() {
        let entrances = Entrances::default();
        let check = |header: &BatchHeader| {
            entrances
                .check(Uuid::nil(), 0, header)
                .map_err(|refusal| refusal.code)
        };
        let (first, second) = (header(1, 0, 100, 10), header(1, 0, 110, 10));
        entrances.miss(Uuid::nil(), 0, &first, 0);
        entrances.miss(Uuid::nil(), 0, &second, 0);
        assert_eq!(check(&second), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(check(&first), Ok(false));
        entrances.note(Uuid::nil(), 0, &first, 0);
        entrances.miss(Uuid::nil(), 0, &second, 0);
        assert_eq!((check(&first), check(&second)), (Ok(true), Ok(false)));
    }

    #[test]
    fn the_coordinator_is_asked_once_in_each_epoch() {
        let entrances = Entrances::default();
        let has_joined = |epoch, index| entrances.has_joined(Uuid::nil(), index, &header(1, epoch, 0, 1));
        assert!(!has_joined(0, 0));
        entrances.join(Uuid::nil(), 0, &header(1, 0, 100, 1), 0);
        assert!(has_joined(0, 0) && !has_joined(1, 0) && !has_joined(0, 1));
        let first = header(1, 0, 100, 10);
        assert!(
            entrances.check(Uuid::nil(), 0, &first).is_ok_and(|known| !known),
            "it may begin anywhere still"
        );
        entrances.join(Uuid::nil(), 0, &header(1, 1, 0, 1), 0);
        assert!(has_joined(1, 0) && !has_joined(0, 0));
    }

    #[test]
    fn only_so_many_producers_are_remembered() {
        let entrances = Entrances::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            entrances.note(Uuid::nil(), 0, &header(id, 0, 0, 1), id);
        }
        let producers = entrances.producers.lock().unwrap();
        assert!(producers.len() <= PRODUCERS_MAX / 2 + 2);
        assert!(producers.contains_key(&(Uuid::nil(), 0, PRODUCERS_MAX as i64)));
        assert!(!producers.contains_key(&(Uuid::nil(), 0, 0)));
    }
}
