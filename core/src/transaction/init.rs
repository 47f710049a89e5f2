//! InitProducerId: a producer takes its transactional id, and fences whoever had it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Transaction, TransactionState};
use super::types::{InitRequest, Producer, Step, TransactionError};
use super::Transactions;

impl Transactions {
    /// Gives the producer that has `id` from now on. A transaction that is open is aborted first: then the request has
    /// to come again.
    ///
    /// # Errors
    /// Why not; the step is to be carried out nevertheless.
    pub fn init(
        &mut self,
        now_ms: i64,
        id: &str,
        request: InitRequest,
    ) -> (Result<Producer, TransactionError>, Step) {
        match self.take_id(now_ms, id, request) {
            Ok((producer, step)) => (Ok(producer), step),
            Err(Refused { error, step }) => (Err(error), step),
        }
    }

    fn take_id(
        &mut self,
        now_ms: i64,
        id: &str,
        request: InitRequest,
    ) -> Result<(Producer, Step), Refused> {
        if id.is_empty() {
            return Err(TransactionError::InvalidRequest.into());
        }
        if !(1..=self.config.timeout_ms_max).contains(&request.timeout_ms) {
            return Err(TransactionError::InvalidTransactionTimeout.into());
        }
        let Some((id, known)) = self.by_id.get_key_value(id) else {
            return self.first(now_ms, id, request);
        };
        let (id, known) = (id.clone(), known.clone());
        if let Some(expected) = request.expected {
            if let Some((before, after)) = known.went_on_from
                && before == expected
                && after == known.producer
                && known.state == TransactionState::Empty
            {
                // The answer was lost.
                return Ok((known.producer, Step::default()));
            }
            if expected != known.seen_by_client() {
                return Err(TransactionError::ProducerFenced.into());
            }
        }
        match known.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                Err(TransactionError::ConcurrentTransactions.into())
            }
            TransactionState::Ongoing => Err(Refused {
                error: TransactionError::ConcurrentTransactions,
                step: Step::of(known.record(&id, known.fenced(now_ms))),
            }),
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
                self.goes_on(now_ms, &id, &known, request)
            }
        }
    }

    fn first(&mut self, now_ms: i64, id: &str, request: InitRequest) -> Result<(Producer, Step), Refused> {
        if self.by_id.len() >= self.config.ids_max {
            return Err(TransactionError::TooManyIds.into());
        }
        // Who goes on although nothing is known of it was away for longer than ids are remembered.
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

    fn goes_on(
        &mut self,
        now_ms: i64,
        id: &Arc<str>,
        known: &Transaction,
        request: InitRequest,
    ) -> Result<(Producer, Step), Refused> {
        let (producer, previous_producer_id) = if known.producer.is_exhausted() {
            let fresh = request.fresh.ok_or(TransactionError::ProducerIdNeeded)?;
            (Producer { id: fresh, epoch: 0 }, known.producer.id)
        } else {
            (known.producer.next(), known.previous_producer_id)
        };
        let next = Transaction {
            producer,
            previous_producer_id,
            timeout_ms: request.timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeMap::new(),
            started_ms: -1,
            updated_ms: now_ms,
            ..known.clone()
        };
        let step = Step::of(next.record(id, next.value()));
        if let Some(known) = self.by_id.get_mut(id) {
            known.went_on_from = request.expected.map(|before| (before, producer));
        }
        Ok((producer, step))
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
