//! AddPartitionsToTxn and AddOffsetsToTxn: what a transaction writes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Transaction, TransactionState};
use super::types::{Producer, Step, TransactionError, Version};
use super::Transactions;

impl Transactions {
    /// Adds partitions to a producer's transaction, which begins with the first of them.
    ///
    /// # Errors
    /// The producer has not the id (any more), or its transaction before is not over yet.
    pub fn add(
        &self,
        now_ms: i64,
        id: &str,
        producer: Producer,
        partitions: &BTreeMap<Arc<str>, Vec<i32>>,
        version: Version,
    ) -> Result<Step, TransactionError> {
        let (id, known) = self.held_by(id, producer)?;
        let is_there = |topic: &Arc<str>, index: &i32| {
            let touched = known.partitions.get(topic);
            touched.is_some_and(|indexes| indexes.contains(index))
        };
        let mut asked = partitions.iter();
        if known.state == TransactionState::Ongoing
            && asked.all(|(topic, indexes)| indexes.iter().all(|index| is_there(topic, index)))
        {
            return Ok(Step::default());
        }
        let mut next = Transaction {
            state: TransactionState::Ongoing,
            updated_ms: now_ms,
            version,
            ..known.clone()
        };
        if known.state != TransactionState::Ongoing {
            next.started_ms = now_ms;
            next.partitions.clear();
        }
        for (topic, indexes) in partitions {
            let touched = next.partitions.entry(topic.clone()).or_default();
            touched.extend(indexes.iter().copied());
        }
        Ok(Step::of(next.record(id, next.value())))
    }

    /// Whether a partition belongs to the producer's transaction (KIP-890).
    ///
    /// # Errors
    /// It does not, or the producer has not the id (any more).
    pub fn verify(
        &self,
        id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
    ) -> Result<(), TransactionError> {
        let (_, known) = self.held_by(id, producer)?;
        let touched = known.partitions.get(topic);
        match known.state == TransactionState::Ongoing && touched.is_some_and(|t| t.contains(&partition)) {
            true => Ok(()),
            false => Err(TransactionError::NotInTransaction),
        }
    }

    /// The transaction of a producer that may write now.
    fn held_by(&self, id: &str, producer: Producer) -> Result<(&Arc<str>, &Transaction), TransactionError> {
        if id.is_empty() {
            return Err(TransactionError::InvalidRequest);
        }
        let found = self.by_id.get_key_value(id);
        let (id, known) = found
            .filter(|(_, known)| [known.producer.id, known.seen_by_client().id].contains(&producer.id))
            .ok_or(TransactionError::InvalidProducerIdMapping)?;
        if producer != known.seen_by_client() {
            return Err(TransactionError::ProducerFenced);
        }
        match known.state.outcome() {
            Some(_) => Err(TransactionError::ConcurrentTransactions),
            None => Ok((id, known)),
        }
    }
}
