//! InitProducerId: a producer takes its transactional id, and fences whoever had it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Transactions;
use super::state::{Outcome, Then, Transaction, TransactionState};
use super::types::{InitRequest, Producer, Step, TEXT_BYTES_MAX, TransactionError};
use crate::mutation::{Mutation, is_on};

impl Transactions {
    /// Gives the producer that has `id` from now on. A transaction that is open is aborted first: then the request has
    /// to come again.
    ///
    /// # Errors
    /// Why not; the step is to be carried out nevertheless.
    pub fn init(
        &self,
        now_ms: i64,
        id: &str,
        request: InitRequest,
    ) -> (Result<Producer, TransactionError>, Step) {
        match self.take_id(now_ms, id, request) {
            Ok((producer, step)) => (Ok(producer), step),
            Err(Refused { error, step }) => (Err(error), step),
        }
    }

    fn take_id(&self, now_ms: i64, id: &str, request: InitRequest) -> Result<(Producer, Step), Refused> {
        let is_none = |producer: Producer| producer.id < 0 || producer.epoch < 0;
        if id.is_empty() || id.len() > TEXT_BYTES_MAX || request.expected.is_some_and(is_none) {
            return Err(TransactionError::InvalidRequest.into());
        }
        if !(1..=self.config.timeout_ms_max).contains(&request.timeout_ms) {
            return Err(TransactionError::InvalidTransactionTimeout.into());
        }
        let Some((id, known)) = self.by_id.get_key_value(id) else {
            return self.first(now_ms, id, request);
        };
        // Unlike Kafka, somebody who has lost the id does not even abort the transaction of who has it.
        let may = |expected| known.is_held_by(expected) || known.came_from(expected);
        if !request.expected.is_none_or(may) {
            return Err(TransactionError::ProducerFenced.into());
        }
        match known.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                Err(TransactionError::ConcurrentTransactions.into())
            }
            TransactionState::Ongoing => {
                let then = match request.expected {
                    Some(_) => known.goes_on(request.fresh)?,
                    None => Then::IsFenced,
                };
                Err(Refused {
                    error: TransactionError::ConcurrentTransactions,
                    step: Step::of(known.record(id, known.decided(now_ms, Outcome::Abort, then))),
                })
            }
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
                let next = known.begun(now_ms, request)?;
                let is_known = known.state == TransactionState::Empty
                    && (known.producer, known.timeout_ms) == (next.producer, next.timeout_ms);
                let step = match is_known {
                    true => Step::default(),
                    false => Step::of(known.record(id, next.value())),
                };
                Ok((next.producer, step))
            }
        }
    }

    fn first(&self, now_ms: i64, id: &str, request: InitRequest) -> Result<(Producer, Step), Refused> {
        if self.by_id.len() >= self.config.ids_max {
            return Err(TransactionError::TooManyIds.into());
        }
        // Who goes on although nothing is known of it was away for longer than ids are remembered. Others may have come
        // and gone meanwhile: unlike Kafka, this does not let it do their work again.
        if request.expected.is_some() {
            return Err(TransactionError::InvalidProducerIdMapping.into());
        }
        let fresh = request.fresh.ok_or(TransactionError::ProducerIdNeeded)?;
        let producer = Producer { id: fresh, epoch: 0 };
        let first = Transaction {
            producer,
            timeout_ms: request.timeout_ms,
            updated_ms: now_ms,
            ..Default::default()
        };
        Ok((producer, Step::of(first.record(&Arc::from(id), first.value()))))
    }
}

impl Transaction {
    /// Its producer begins anew, or another one does.
    fn begun(&self, now_ms: i64, request: InitRequest) -> Result<Self, TransactionError> {
        let (producer, previous_producer_id) = match request.expected {
            // It was told already, and did not hear.
            Some(expected) if self.came_from(expected) => (self.producer, self.previous_producer_id),
            expected => {
                let producer = match self.producer.is_exhausted() {
                    true => Producer {
                        id: request.fresh.ok_or(TransactionError::ProducerIdNeeded)?,
                        epoch: 0,
                    },
                    false if is_on(Mutation::SameProducerEpoch) => self.producer,
                    false => self.producer.next(),
                };
                (producer, expected.map_or(-1, |expected| expected.id))
            }
        };
        Ok(Self {
            producer,
            previous_producer_id,
            next_producer_id: -1,
            timeout_ms: request.timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeMap::new(),
            started_ms: -1,
            updated_ms: now_ms,
            version: self.version,
        })
    }
}

struct Refused {
    error: TransactionError,
    step: Step,
}

impl From<TransactionError> for Refused {
    fn from(error: TransactionError) -> Self {
        Self {
            error,
            step: Step::default(),
        }
    }
}
