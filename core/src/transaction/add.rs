//! AddPartitionsToTxn and AddOffsetsToTxn: what a transaction writes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Transactions;
use super::state::{Transaction, TransactionState};
use super::types::{Producer, Step, TEXT_BYTES_MAX, TransactionError, Version};

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
        if partitions.keys().any(|topic| topic.len() > TEXT_BYTES_MAX) {
            return Err(TransactionError::InvalidRequest);
        }
        let is_there = |topic: &Arc<str>, index: &i32| {
            let touched = known.partitions.get(topic);
            touched.is_some_and(|indexes| indexes.contains(index))
        };
        let is_ongoing = known.state == TransactionState::Ongoing;
        let is_new = |topic, index| !is_ongoing || !is_there(topic, index);
        let mut asked = partitions.iter();
        if !asked.any(|(topic, indexes)| indexes.iter().any(|index| is_new(topic, index))) {
            return Ok(Step::default());
        }
        let mut next = Transaction {
            state: TransactionState::Ongoing,
            // Its client knows who it is.
            previous_producer_id: -1,
            updated_ms: now_ms,
            version,
            ..known.clone()
        };
        if !is_ongoing {
            next.started_ms = now_ms;
            next.partitions.clear();
        }
        for (topic, indexes) in partitions.iter().filter(|(_, indexes)| !indexes.is_empty()) {
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
        if !known.is_held_by(producer) {
            return Err(TransactionError::ProducerFenced);
        }
        match known.state.outcome() {
            Some(_) => Err(TransactionError::ConcurrentTransactions),
            None => Ok((id, known)),
        }
    }
}
