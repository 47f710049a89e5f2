//! Transactions in a partition: the markers that end them, who has one open, and the guard that keeps a record from
//! beginning one that its coordinator knows nothing of, or has ended already (KIP-890).

use std::collections::HashMap;
use std::sync::Arc;

use millstream_core::ids::{Offset, ProducerId};
use millstream_kafka::records::BatchHeader;
use millstream_storage::{AbortedTransaction, AppendError as LogError, EndMarker, ProducerState, ReadError};

use super::partition::{State, Watermarks};
use super::role::Role;
use super::{AppendError, FileSlice, Partition, Receipt};

/// What a reader wants to see (Kafka's `isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Whatever is safe.
    Uncommitted,
    /// What is decided: nothing from the first record on of a transaction that may still be aborted.
    Committed,
}

/// Says that no marker has ended a transaction of the producer since the question to its coordinator was begun.
#[derive(Debug)]
pub struct Guard(u64);

/// A batch is a part of a transaction: with what lets it begin that, unless it is open already.
#[derive(Debug)]
pub struct Part(pub Option<Guard>);

/// The questions to coordinators that are under way in one partition.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    by_producer: HashMap<i64, Verification>,
    begun: u64,
}

#[derive(Debug)]
struct Verification {
    number: u64,
    epoch: i16,
    /// The first of the batches that were asked about: what comes behind it must not get into the log before it.
    lowest_sequence: i32,
    bumps_epochs: bool,
}

impl Partition {
    /// Appends a marker, which ends the producer's transaction if one is open here, also what a partitioner has spread of it.
    /// As durable as any batch.
    ///
    /// # Errors
    /// This broker does not lead; the producer or the coordinator was replaced; disk and state errors of the log. It is as
    /// if nothing was appended then.
    pub fn append_marker(self: &Arc<Self>, marker: EndMarker, now_ms: i64) -> Result<Receipt, AppendError> {
        let mut state = self.lock();
        let receipt = self.append_to(&mut state, MARKER_BYTES, |log, term| {
            log.append_marker(marker, term, now_ms)
        })?;
        state.verifications.forget_all_of(ProducerId(marker.producer_id));
        self.sync_soon(state);
        Ok(receipt)
    }

    /// Begins to ask a coordinator whether a batch may begin a transaction here. `bumps_epochs` tells whether its producer
    /// takes a new epoch for every transaction. None if the transaction is open already, so that there is nothing to ask.
    pub fn begin_verification(&self, batch: &BatchHeader, bumps_epochs: bool) -> Option<Guard> {
        let producer = (batch.producer_id, batch.producer_epoch);
        self.begin_verification_of(producer, batch.base_sequence, bumps_epochs)
    }

    /// As [`Partition::begin_verification`], of a batch of that producer with that sequence number.
    pub fn begin_verification_of(
        &self,
        producer: (i64, i16),
        sequence: i32,
        bumps_epochs: bool,
    ) -> Option<Guard> {
        let mut state = self.lock();
        let is_open = state.log.open_transaction(producer.0, producer.1);
        (!is_open).then(|| state.verifications.begin(producer, sequence, bumps_epochs))
    }

    /// As [`Partition::append`], but a batch begins a transaction only with the guard of before its coordinator was asked.
    ///
    /// # Errors
    /// As [`Partition::append`]; [`AppendError::Unverified`] if the batch would begin a transaction and has no guard, or a
    /// marker or another term has come since. Nothing is appended then.
    pub fn append_verified(
        self: &Arc<Self>,
        batch: &[u8],
        now_ms: i64,
        guard: Option<Guard>,
    ) -> Result<Receipt, AppendError> {
        let header = BatchHeader::parse(batch).map_err(LogError::from)?;
        let mut state = self.lock();
        if let Role::Leader(_) = state.role
            && header.attributes.is_transactional()
            && !state.log.open_transaction(header.producer_id, header.producer_epoch)
            // What is here already begins nothing.
            && !state.log.check_sequence(batch).is_ok_and(|is_known| is_known)
        {
            state.check_verified(&header, guard)?;
        }
        let receipt = self.append_to(&mut state, batch.len(), |log, term| {
            log.append_as_leader(batch, term, now_ms)
        })?;
        state.verifications.forget(header.producer_id);
        self.sync_soon(state);
        Ok(receipt)
    }

    /// What readers of committed records have to skip of `slice`, which was read from `offset` on. Blocks.
    ///
    /// # Errors
    /// What was read has been deleted since, or cannot be read.
    pub fn aborted_in(
        &self,
        offset: Offset,
        slice: &FileSlice,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let end = slice.next_offset()?;
        let state = self.lock();
        let start = state.log.log_start_offset();
        if offset < start {
            // With the records, it was forgotten that they were aborted.
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        state.log.aborted_transactions(offset, end)
    }

    /// When the transaction began that holds back the last stable offset, in milliseconds since 1970 by the clock that
    /// gives records their time. None if no transaction is open, or its first record has no time. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn oldest_transaction_ms(&self) -> Result<Option<i64>, ReadError> {
        let mut state = self.lock();
        if state.log.open_transactions() == 0 {
            return Ok(None);
        }
        let Watermarks {
            last_stable, log_end, ..
        } = state.watermarks();
        let first = state.log.read(last_stable, 1, log_end, true)?;
        drop(state);
        let Some(first) = first else { return Ok(None) };
        let begun_ms = FileSlice::from(first).first_header()?.max_timestamp;
        Ok((begun_ms >= 0).then_some(begun_ms))
    }

    /// Number of transactions that are open.
    pub fn open_transactions(&self) -> usize {
        self.lock().log.open_transactions()
    }

    /// Whether the producer has a transaction open here, in this very epoch.
    pub fn open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.lock().log.open_transaction(producer_id, epoch)
    }

    /// What is known of the producers, by id.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.lock().log.producers()
    }
}

impl Watermarks {
    /// Readers see what lies before it.
    pub fn readable(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::Uncommitted => self.high,
            Isolation::Committed => self.last_stable,
        }
    }
}

impl State {
    /// Whether a batch may begin a transaction.
    fn check_verified(&self, batch: &BatchHeader, guard: Option<Guard>) -> Result<(), AppendError> {
        let asked = self.verifications.by_producer.get(&batch.producer_id);
        let asked = guard.and_then(|guard| asked.filter(|asked| asked.number == guard.0));
        let asked = asked.ok_or(AppendError::Unverified {
            producer_id: batch.producer_id,
        })?;
        // The log would take an unknown producer's batch with any number, and so could miss one that was refused before.
        let is_new = asked.bumps_epochs && !self.log.knows_producer(batch.producer_id);
        let expected = if is_new { 0 } else { asked.lowest_sequence };
        if batch.base_sequence > expected {
            return Err(AppendError::Log(LogError::OutOfOrderSequence {
                producer_id: batch.producer_id,
                sequence: batch.base_sequence,
                expected,
            }));
        }
        Ok(())
    }
}

impl Verifications {
    /// Batches of one producer that wait for the same answer share a guard.
    fn begin(&mut self, (producer_id, epoch): (i64, i16), sequence: i32, bumps_epochs: bool) -> Guard {
        if let Some(asked) = self.by_producer.get_mut(&producer_id) {
            if epoch > asked.epoch {
                (asked.epoch, asked.lowest_sequence) = (epoch, sequence);
            } else if epoch == asked.epoch {
                asked.lowest_sequence = asked.lowest_sequence.min(sequence);
            }
            return Guard(asked.number);
        }
        if self.by_producer.len() >= VERIFICATIONS_MAX {
            self.forget_the_older_half();
        }
        self.begun += 1;
        let asked = Verification {
            number: self.begun,
            epoch,
            lowest_sequence: sequence,
            bumps_epochs,
        };
        self.by_producer.insert(producer_id, asked);
        Guard(self.begun)
    }

    /// A transaction of the producer has begun or ended: guards of before are worth nothing.
    #[inline]
    fn forget(&mut self, producer_id: i64) {
        if !self.by_producer.is_empty() {
            self.by_producer.remove(&producer_id);
        }
    }

    /// As [`Verifications::forget`], also where the producer's records are spread.
    fn forget_all_of(&mut self, producer: ProducerId) {
        if !self.by_producer.is_empty() {
            self.by_producer
                .retain(|id, _| *id != producer.0 && ProducerId(*id).origin() != producer);
        }
    }

    /// Nothing that was asked in this term holds in the next.
    pub fn forget_all(&mut self) {
        self.by_producer.clear();
    }

    fn forget_the_older_half(&mut self) {
        let mut numbers: Vec<u64> = self.by_producer.values().map(|asked| asked.number).collect();
        let (_, middle, _) = numbers.select_nth_unstable(VERIFICATIONS_MAX / 2);
        let middle = *middle;
        self.by_producer.retain(|_, asked| asked.number >= middle);
    }
}

/// What a marker takes in the log.
const MARKER_BYTES: usize = 78;
/// Producers of one partition whose coordinators are asked at a time. Batches of those that are forgotten are refused.
const VERIFICATIONS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
