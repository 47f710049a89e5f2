//! The transactions of one partition of `__transaction_state`, driven by a shard.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use millstream_core::transaction::{
    self, Outcome, Producer, Record, Transaction, TransactionConfig, Transactions, Version,
};
use millstream_kafka::records::{BatchError, BatchView, Scratch};

use super::events::Event;
use super::machine::{Machine, Step, Unserved};
use super::replay;

/// A transaction that is decided: its partitions are to be told.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Its transactional id.
    pub id: Arc<str>,
    /// The producer that the markers name.
    pub producer: Producer,
    /// What was decided.
    pub outcome: Outcome,
    /// How its client's transactions work.
    pub version: Version,
    /// When it began.
    pub started_ms: i64,
    /// What it has touched, by topic.
    pub partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
}

impl Decided {
    fn of(id: &Arc<str>, known: &Transaction) -> Option<Self> {
        Some(Self {
            id: id.clone(),
            producer: known.producer,
            outcome: known.state.outcome()?,
            version: known.version,
            started_ms: known.started_ms,
            partitions: known.partitions.clone(),
        })
    }

    /// Whether it is not over yet.
    pub fn is_prepared(&self, transactions: &Transactions) -> bool {
        let known = transactions.get(&self.id);
        known.is_some_and(|known| {
            known.state.outcome() == Some(self.outcome)
                && known.producer == self.producer
                && known.started_ms == self.started_ms
        })
    }
}

impl Machine for Transactions {
    type Config = TransactionConfig;
    type Record = Record;
    type Response = Infallible;
    type Error = Unserved;
    type FollowUp = Decided;

    const WHAT: &'static str = "transactions";

    fn empty(config: TransactionConfig) -> Self {
        Self::new(config)
    }

    fn read(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<usize, BatchError> {
        if batch.header().attributes.is_control() {
            return Ok(0);
        }
        replay::each_record(batch, scratch, |offset, key, value| {
            match Record::decode(key, value) {
                Ok(Some(decoded)) => Self::replay(self, &decoded),
                Ok(None) => tracing::debug!(offset, "skipped a record of another kind"),
                Err(error) => {
                    tracing::warn!(offset, %error, "skipped a damaged record of a transaction");
                }
            }
        })
    }

    fn encode(record: &Record) -> (Vec<u8>, Option<Vec<u8>>) {
        record.encode()
    }

    fn replay(&mut self, record: &Record, _: Option<(i64, i16)>) {
        Self::replay(self, record);
    }

    fn loaded(&mut self, _: &TransactionConfig, _: i64) -> Step<Self> {
        Step::default()
    }

    fn next_deadline(&self) -> Option<i64> {
        Self::next_deadline(self)
    }

    fn tick(&mut self, now_ms: i64) -> Step<Self> {
        let step: Step<Self> = Self::tick(self, now_ms).into();
        Step {
            events: step.events.iter().map(|_| Event::TimedOut).collect(),
            ..step
        }
    }

    fn expire(&mut self, now_ms: i64) -> Step<Self> {
        Self::expire(self, now_ms).into()
    }

    fn close(&mut self) -> Step<Self> {
        Step::default()
    }

    fn failed(response: Infallible) -> Infallible {
        response
    }

    fn len(&self) -> usize {
        self.iter().count()
    }

    fn live_record_count(&self) -> Option<usize> {
        Some(Self::live_record_count(self))
    }

    fn live_records(&self) -> Vec<Record> {
        Self::live_records(self)
    }

    fn follow_up(&self, record: &Record) -> Option<Decided> {
        let id = &record.transactional_id;
        Decided::of(id, self.get(id)?)
    }

    fn follow_ups(&self) -> Vec<Decided> {
        self.prepared()
            .filter_map(|(id, known)| Decided::of(id, known))
            .collect()
    }
}

impl From<transaction::Step> for Step<Transactions> {
    fn from(step: transaction::Step) -> Self {
        let values = step.records.iter().filter_map(|record| record.value.as_ref());
        let decided = values.filter_map(|value| value.outcome());
        Self {
            events: decided.map(Event::Decided).collect(),
            records: step.records,
            ..Self::default()
        }
    }
}
