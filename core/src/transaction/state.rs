//! One transactional id and its transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Record, TransactionValue};
use super::types::{Producer, Version};

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
    fn from_log(number: i8) -> Self {
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
    /// The producer id before, where that ran out of epochs; -1 if there was none.
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
    /// Who the producer was that became this one as it went on: its request may come again. Not in the log.
    pub(super) went_on_from: Option<(Producer, Producer)>,
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
            went_on_from: None,
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
            went_on_from: self.went_on_from,
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

    /// Aborted by the coordinator, and its producer fenced: the markers carry a new epoch.
    pub(super) fn fenced(&self, now_ms: i64) -> TransactionValue {
        let next = Self {
            producer: self.producer.next(),
            state: TransactionState::PrepareAbort,
            updated_ms: now_ms,
            ..self.clone()
        };
        next.value()
    }

    /// Decided by its producer. With KIP-890 the markers carry the epoch of the next transaction; where that is the last
    /// one, `next_producer_id` takes over behind them.
    pub(super) fn decided(
        &self,
        now_ms: i64,
        outcome: Outcome,
        version: Version,
        next_producer_id: i64,
    ) -> TransactionValue {
        let next = Self {
            producer: match version {
                Version::V1 => self.producer,
                Version::V2 => self.producer.next(),
            },
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
            version,
            ..self.clone()
        };
        next.value()
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
}
