//! One transactional id and its transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Record, TransactionValue};
use super::types::{Producer, ProducerEpoch, TransactionError, Version};

/// Where a transaction is, with Kafka's names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TransactionState {
    /// There was none since the producer began.
    #[default]
    Empty,
    /// Partitions are written to.
    Ongoing,
    /// It is committed; not all partitions know.
    PrepareCommit,
    /// It is aborted; not all partitions know.
    PrepareAbort,
    /// It was committed.
    CompleteCommit,
    /// It was aborted.
    CompleteAbort,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What was written counts.
    Commit,
    /// It does not.
    Abort,
}

impl TransactionState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Kafka's number; what it does not have here counts as nothing under way.
    pub(super) fn from_log(number: i8) -> Self {
        match number {
            1 => Self::Ongoing,
            2 => Self::PrepareCommit,
            3 => Self::PrepareAbort,
            4 => Self::CompleteCommit,
            5 => Self::CompleteAbort,
            _ => Self::Empty,
        }
    }

    fn to_log(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
        }
    }

    /// What was decided and is not known to all partitions yet.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::PrepareCommit => Some(Outcome::Commit),
            Self::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }

    /// Whether nothing is under way.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }
}

/// One transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Who has the id. While an outcome is told, markers carry its epoch.
    pub producer: Producer,
    /// The producer id that its client may still take for its own: it was given this producer and may not have heard
    /// of it. -1 if nobody is left who may ask for it.
    pub previous_producer_id: i64,
    /// The producer id from the end of the transaction on; -1 if it stays.
    pub next_producer_id: i64,
    /// Longest time of a transaction, in milliseconds.
    pub timeout_ms: i32,
    /// Where it is.
    pub state: TransactionState,
    /// What was written to, by topic.
    pub partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
    /// When it began, in milliseconds since 1970; -1 if there is none.
    pub started_ms: i64,
    /// When it last changed.
    pub updated_ms: i64,
    /// How the client's transactions work.
    pub version: Version,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            producer: Producer::NONE,
            previous_producer_id: -1,
            next_producer_id: -1,
            timeout_ms: 0,
            state: TransactionState::Empty,
            partitions: BTreeMap::new(),
            started_ms: -1,
            updated_ms: 0,
            version: Version::V1,
        }
    }
}

impl Transaction {
    pub(super) fn replay(&mut self, value: &TransactionValue) {
        let partitions = value.partitions.iter();
        *self = Self {
            producer: Producer {
                id: value.producer_id,
                epoch: value.producer_epoch,
            },
            previous_producer_id: value.previous_producer_id,
            next_producer_id: value.next_producer_id,
            timeout_ms: value.timeout_ms,
            state: TransactionState::from_log(value.status),
            partitions: partitions
                .map(|(topic, indexes)| (topic.clone(), indexes.iter().copied().collect()))
                .collect(),
            started_ms: value.start_ms,
            updated_ms: value.last_update_ms,
            version: Version::from_log(value.client_version),
        };
    }

    /// What a record says of it.
    pub(super) fn value(&self) -> TransactionValue {
        let partitions = self.partitions.iter();
        TransactionValue {
            producer_id: self.producer.id,
            previous_producer_id: self.previous_producer_id,
            next_producer_id: self.next_producer_id,
            producer_epoch: self.producer.epoch,
            next_producer_epoch: -1,
            timeout_ms: self.timeout_ms,
            status: self.state.to_log(),
            partitions: partitions
                .map(|(topic, indexes)| (topic.clone(), indexes.iter().copied().collect()))
                .collect(),
            last_update_ms: self.updated_ms,
            start_ms: self.started_ms,
            client_version: self.version.to_log(),
        }
    }

    pub(super) fn record(&self, id: &Arc<str>, value: TransactionValue) -> Record {
        Record {
            transactional_id: id.clone(),
            value: Some(value),
        }
    }

    /// When its time is over, while it is open.
    pub(super) fn deadline(&self) -> Option<i64> {
        let is_open = self.state == TransactionState::Ongoing;
        is_open.then(|| self.started_ms.saturating_add(i64::from(self.timeout_ms)))
    }

    /// Decided: the outcome is certain, and markers carry it.
    pub(super) fn decided(&self, now_ms: i64, outcome: Outcome, then: Then) -> TransactionValue {
        let (producer, previous_producer_id, next_producer_id) = match then {
            Then::Stays => (self.producer, -1, -1),
            Then::GoesOn { next_producer_id } => (self.producer.next(), self.producer.id, next_producer_id),
            Then::IsFenced => (self.producer.next(), -1, -1),
        };
        let next = Self {
            producer,
            previous_producer_id,
            next_producer_id,
            state: match outcome {
                Outcome::Commit => TransactionState::PrepareCommit,
                Outcome::Abort => TransactionState::PrepareAbort,
            },
            started_ms: match self.state {
                TransactionState::Ongoing => self.started_ms,
                _ => now_ms,
            },
            updated_ms: now_ms,
            ..self.clone()
        };
        next.value()
    }

    /// What becomes of a producer that ends its transaction, and has the next one in an epoch of its own.
    pub(super) fn goes_on(&self, fresh: Option<i64>) -> Result<Then, TransactionError> {
        let next_producer_id = match self.producer.is_exhausted() {
            true => fresh.ok_or(TransactionError::ProducerIdNeeded)?,
            false => -1,
        };
        Ok(Then::GoesOn { next_producer_id })
    }

    /// Aborted for want of time. Its producer may go on if nobody else takes the id, but for the last epoch.
    pub(super) fn timed_out(&self, now_ms: i64) -> TransactionValue {
        let then = self.goes_on(None).unwrap_or(Then::IsFenced);
        self.decided(now_ms, Outcome::Abort, then)
    }

    /// Over, once all partitions know what was decided; none if nothing was.
    pub(super) fn completed(&self, now_ms: i64) -> Option<TransactionValue> {
        let outcome = self.state.outcome()?;
        let (producer, previous_producer_id) = match self.next_producer_id {
            -1 => (self.producer, self.previous_producer_id),
            id => (Producer { id, epoch: 0 }, self.producer.id),
        };
        let next = Self {
            producer,
            previous_producer_id,
            next_producer_id: -1,
            state: match outcome {
                Outcome::Commit => TransactionState::CompleteCommit,
                Outcome::Abort => TransactionState::CompleteAbort,
            },
            partitions: BTreeMap::new(),
            updated_ms: now_ms,
            ..self.clone()
        };
        Some(next.value())
    }

    /// Who its producer is for its client: while a last epoch is told to partitions, already the one that comes then.
    pub fn seen_by_client(&self) -> Producer {
        match self.next_producer_id {
            -1 => self.producer,
            id => Producer { id, epoch: 0 },
        }
    }

    /// Whether the producer has the id. Nobody does in the last epoch: markers have it, so that they fence.
    pub(super) fn is_held_by(&self, producer: Producer) -> bool {
        producer == self.seen_by_client() && producer.epoch < ProducerEpoch::MAX
    }

    /// Whether the producer is the one that became the one of now, and may not have heard of it: it ended a transaction
    /// (KIP-890), went on after an error (KIP-360), or took too long (KIP-588). No other client has had this producer.
    pub(super) fn came_from(&self, producer: Producer) -> bool {
        if self.state == TransactionState::Ongoing
            || self.previous_producer_id != producer.id
            || producer.id < 0
        {
            return false;
        }
        match self.producer.id == producer.id {
            true => producer.epoch.checked_add(1) == Some(self.producer.epoch),
            false => self.producer.epoch == 0 && producer.epoch == ProducerEpoch::MAX - 1,
        }
    }
}

/// What becomes of a producer as its transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It stays who it is.
    Stays,
    /// The next transaction has an epoch of its own, or, if there is none left, an id of its own (or -1): markers carry
    /// the epoch that follows, so nothing that comes late belongs to the next transaction.
    GoesOn {
        /// Takes over behind the markers.
        next_producer_id: i64,
    },
    /// It is to do nothing any more: markers carry the epoch that follows, and nobody hears of it.
    IsFenced,
}
