//! The coordinator of transactions: which producer has a transactional id, which partitions its transaction has touched,
//! and whether it was committed.
//!
//! A state machine like Kafka's `TransactionCoordinator`: requests and the time come in, an answer and the records to
//! write come out. The driver appends the records, then hands each to [`Transactions::replay`], live and when it loads
//! the log alike: only that changes a transaction. Answers leave once every record before them is durable.
//!
//! A transaction ends in two steps. First it is decided: a record says `PrepareCommit` or `PrepareAbort`, and from then on
//! the outcome is certain. Then the driver writes a marker into every partition that was touched, as long as that takes
//! ([`Transactions::prepared`]), and reports it ([`Transactions::finished`]).
//!
//! Sources: KIP-98 (transactions), KIP-360 (a producer goes on after an error), KIP-588 (a time-out is not fatal), KIP-890
//! (each transaction has an epoch of its own, and a leader asks whether a partition belongs to it).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::mutation::{Mutation, is_on};

mod add;
mod end;
mod init;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod types;

pub use record::{Record, RecordError, TransactionValue};
pub use state::{Outcome, Transaction, TransactionState};
pub use types::{
    EndRequest, InitRequest, Producer, ProducerEpoch, Step, TransactionConfig, TransactionError, Version,
};

/// All transactional ids of one partition of `__transaction_state`.
#[derive(Debug, Clone, Default)]
pub struct Transactions {
    config: TransactionConfig,
    by_id: BTreeMap<Arc<str>, Transaction>,
    /// When transactions that are open run out of time.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    /// Those that are decided.
    prepared: BTreeSet<Arc<str>>,
}

impl Transactions {
    /// No ids yet.
    pub fn new(config: TransactionConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// The bounds that hold.
    pub fn config(&self) -> &TransactionConfig {
        &self.config
    }

    /// Takes over one record of the log: the only way in which transactions change.
    pub fn replay(&mut self, record: &Record) {
        let id = &record.transactional_id;
        if let Some(known) = self.by_id.get(id) {
            if let Some(deadline) = known.deadline() {
                self.deadlines.remove(&(deadline, id.clone()));
            }
            self.prepared.remove(id);
        }
        let Some(value) = &record.value else {
            self.by_id.remove(id);
            return;
        };
        let known = self.by_id.entry(id.clone()).or_default();
        known.replay(value);
        if let Some(deadline) = known.deadline() {
            self.deadlines.insert((deadline, id.clone()));
        }
        if known.state.outcome().is_some() {
            self.prepared.insert(id.clone());
        }
    }

    /// When [`Transactions::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Aborts transactions whose time is over. Their producers can do nothing more in them.
    pub fn tick(&self, now_ms: i64) -> Step {
        let due = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now_ms);
        let due = due.take(TIMED_OUT_AT_ONCE);
        let records = due.filter_map(|(_, id)| {
            let known = self.by_id.get(id)?;
            Some(known.record(id, known.timed_out(now_ms)))
        });
        Step {
            records: records.collect(),
        }
    }

    /// Forgets ids that nobody has used for a long time.
    pub fn expire(&self, now_ms: i64) -> Step {
        let oldest = now_ms.saturating_sub(self.config.expiration_ms);
        let is_old = |known: &Transaction| known.state.is_over() && known.updated_ms <= oldest;
        let old = self.by_id.iter().filter(|(_, known)| is_old(known));
        let records = old.take(EXPIRED_AT_ONCE).map(|(id, _)| Record {
            transactional_id: id.clone(),
            value: None,
        });
        Step {
            records: records.collect(),
        }
    }

    /// Transactions that are decided, and whose markers are to be written as soon as that is durable. Some have touched
    /// nothing, and are finished without.
    pub fn prepared(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction)> {
        let known = self.prepared.iter().filter(|_| !is_on(Mutation::ForgetPrepared));
        known.filter_map(|id| self.by_id.get_key_value(id))
    }

    /// All markers of a transaction are written: it is over. Nothing happens if that is known already.
    ///
    /// To be told once of each transaction: with version 1, the next one has the same producer.
    pub fn finished(&self, now_ms: i64, id: &str, producer: Producer) -> Step {
        let known = self.by_id.get_key_value(id);
        let Some((id, known)) = known.filter(|(_, known)| known.producer == producer) else {
            return Step::default();
        };
        match known.completed(now_ms) {
            Some(next) => Step::of(known.record(id, next)),
            None => Step::default(),
        }
    }

    /// What is known of an id.
    pub fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    /// All ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction)> {
        self.by_id.iter()
    }

    /// Number of records that say all there is.
    pub fn live_record_count(&self) -> usize {
        self.by_id.len()
    }

    /// Records that say all there is.
    pub fn live_records(&self) -> Vec<Record> {
        let each = self.by_id.iter();
        each.map(|(id, known)| known.record(id, known.value())).collect()
    }
}

/// Most transactions that are aborted in one step for want of time: what is left comes in the next.
const TIMED_OUT_AT_ONCE: usize = 1000;
/// Most ids that are forgotten in one step.
const EXPIRED_AT_ONCE: usize = 1000;
