//! EndTxn: a producer commits or aborts.

use super::state::{Outcome, Transaction, TransactionState};
use super::types::{EndRequest, Producer, Step, TransactionError, Version};
use super::Transactions;

impl Transactions {
    /// Decides a transaction, and gives the producer that the next one is written by.
    ///
    /// # Errors
    /// The producer has not the id (any more), or there is nothing to end so.
    pub fn end(
        &self,
        now_ms: i64,
        id: &str,
        request: EndRequest,
    ) -> Result<(Producer, Step), TransactionError> {
        let EndRequest {
            producer,
            is_commit,
            version,
            fresh,
        } = request;
        if id.is_empty() {
            return Err(TransactionError::InvalidRequest);
        }
        let found = self.by_id.get_key_value(id);
        let (id, known) = found.ok_or(TransactionError::InvalidProducerIdMapping)?;
        let outcome = match is_commit {
            true => Outcome::Commit,
            false => Outcome::Abort,
        };
        if version == Version::V2 && is_said_again(known, producer) {
            return said_again(known, outcome);
        }
        if ![known.producer.id, known.seen_by_client().id].contains(&producer.id) {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        if producer != known.seen_by_client() {
            return Err(TransactionError::ProducerFenced);
        }
        let is_empty = match (known.state, outcome, version) {
            (TransactionState::Ongoing, ..) => false,
            (TransactionState::PrepareCommit, Outcome::Commit, _)
            | (TransactionState::PrepareAbort, Outcome::Abort, _) => {
                return Err(TransactionError::ConcurrentTransactions);
            }
            (TransactionState::CompleteCommit, Outcome::Commit, Version::V1)
            | (TransactionState::CompleteAbort, Outcome::Abort, Version::V1) => {
                return Ok((known.producer, Step::default()));
            }
            // A client cannot know whether leaders have added anything yet.
            (state, Outcome::Abort, Version::V2) if state.is_over() => true,
            _ => return Err(TransactionError::InvalidTxnState),
        };
        let next_producer_id = match version == Version::V2 && known.producer.is_exhausted() {
            true => fresh.ok_or(TransactionError::ProducerIdNeeded)?,
            false => -1,
        };
        let mut value = known.decided(now_ms, outcome, version, next_producer_id);
        if is_empty {
            value.partitions.clear();
        }
        let mut next = known.clone();
        next.replay(&value);
        Ok((next.seen_by_client(), Step::of(known.record(id, value))))
    }
}

/// Whether the producer is the one of the transaction before: it ended that, and did not hear the answer.
fn is_said_again(known: &Transaction, producer: Producer) -> bool {
    if matches!(known.state, TransactionState::Empty | TransactionState::Ongoing) {
        return false;
    }
    let now = known.producer;
    let same_id = now.id == producer.id && producer.epoch.checked_add(1) == Some(now.epoch);
    let other_id = known.previous_producer_id == producer.id && now.epoch == 0 && producer.is_exhausted();
    same_id || other_id
}

fn said_again(known: &Transaction, outcome: Outcome) -> Result<(Producer, Step), TransactionError> {
    match (known.state, outcome) {
        (TransactionState::PrepareCommit, Outcome::Commit)
        | (TransactionState::PrepareAbort, Outcome::Abort) => Err(TransactionError::ConcurrentTransactions),
        (TransactionState::CompleteCommit, Outcome::Commit)
        | (TransactionState::CompleteAbort, Outcome::Abort) => {
            Ok((known.producer, Step::default()))
        }
        _ => Err(TransactionError::InvalidTxnState),
    }
}
