//! EndTxn: a producer commits or aborts.

use super::Transactions;
use super::state::{Outcome, Then, Transaction, TransactionState};
use super::types::{EndRequest, Producer, Step, TransactionError, Version};

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
        if version == Version::V2 && known.state != TransactionState::Empty && known.came_from(producer) {
            return said_again(known, outcome);
        }
        if ![known.producer.id, known.seen_by_client().id].contains(&producer.id) {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        if !known.is_held_by(producer) {
            return Err(TransactionError::ProducerFenced);
        }
        match (known.state, outcome, version) {
            (TransactionState::Ongoing, ..) => {}
            // With an epoch for each transaction, this is about the next one.
            (TransactionState::PrepareCommit | TransactionState::PrepareAbort, _, Version::V2)
            | (TransactionState::PrepareCommit, Outcome::Commit, Version::V1)
            | (TransactionState::PrepareAbort, Outcome::Abort, Version::V1) => {
                return Err(TransactionError::ConcurrentTransactions);
            }
            (TransactionState::CompleteCommit, Outcome::Commit, Version::V1)
            | (TransactionState::CompleteAbort, Outcome::Abort, Version::V1) => {
                return Ok((known.producer, Step::default()));
            }
            // A client cannot know whether leaders have added anything yet.
            (_, Outcome::Abort, Version::V2) => {}
            _ => return Err(TransactionError::InvalidTxnState),
        }
        let then = match version {
            Version::V1 => Then::Stays,
            Version::V2 => known.goes_on(fresh)?,
        };
        let mut next = Transaction {
            version,
            ..known.clone()
        };
        let value = next.decided(now_ms, outcome, then);
        next.replay(&value);
        Ok((next.seen_by_client(), Step::of(known.record(id, value))))
    }
}

/// The producer ended its transaction before, and did not hear the answer.
fn said_again(known: &Transaction, outcome: Outcome) -> Result<(Producer, Step), TransactionError> {
    match (known.state, outcome) {
        (TransactionState::PrepareCommit, Outcome::Commit)
        | (TransactionState::PrepareAbort, Outcome::Abort) => Err(TransactionError::ConcurrentTransactions),
        (TransactionState::CompleteCommit, Outcome::Commit)
        | (TransactionState::CompleteAbort, Outcome::Abort) => Ok((known.producer, Step::default())),
        _ => Err(TransactionError::InvalidTxnState),
    }
}
