//! Transactions: which there are, who writes what in them, and ending those that nobody else ends (KIP-664).

use std::collections::BTreeMap;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_producers::{
    DescribeProducersRequest, PartitionResponse, ProducerState, TopicRequest,
};
use millstream_kafka::api::describe_transactions::{DescribeTransactionsRequest, TransactionState};
use millstream_kafka::api::list_transactions::ListTransactionsRequest;
use millstream_kafka::api::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use millstream_kafka::wire::Text;

use super::Admin;
use super::offsets::{ask_leader, refreshed};
use super::topics::said_nothing;
use crate::cluster::Purpose;
use crate::error::{Error, Result};
use crate::metadata::{Broker, TopicPartition};

/// Which transactional ids are listed: those that all parts let through; an empty part lets everything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Kafka's names of states, such as `Ongoing`.
    pub states: Vec<String>,
    /// Producer ids.
    pub producers: Vec<i64>,
}

/// A transactional id, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionListing {
    /// The id.
    pub id: String,
    /// Broker that coordinates it.
    pub coordinator: i32,
    /// Its producer id.
    pub producer_id: i64,
    /// Kafka's name of its state: `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`, `CompleteAbort`.
    pub state: String,
}

/// A transactional id and its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The id.
    pub id: String,
    /// Broker that coordinates it.
    pub coordinator: i32,
    /// Kafka's name of its state.
    pub state: String,
    /// Its producer id.
    pub producer_id: i64,
    /// The epoch of its producer.
    pub producer_epoch: i16,
    /// How long a transaction may take, in milliseconds.
    pub timeout_ms: i32,
    /// When the transaction began, in milliseconds since 1970; `None` where none is open.
    pub started_ms: Option<i64>,
    /// Partitions that the transaction wrote to.
    pub partitions: Vec<TopicPartition>,
}

/// A producer, as a partition knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// Epoch of the coordinator that ended its last transaction; negative where there was none.
    pub coordinator_epoch: i32,
    /// Number of its last record.
    pub last_sequence: i32,
    /// Time of its last batch, in milliseconds since 1970.
    pub last_timestamp_ms: i64,
    /// Where the transaction begins that is open.
    pub transaction_start: Option<i64>,
}

impl Admin {
    /// The transactional ids of every coordinator, by id.
    ///
    /// # Errors
    /// A broker cannot be reached; there is no such state.
    pub async fn list_transactions(&self, filter: &TransactionFilter) -> Result<Vec<TransactionListing>> {
        self.client.retry(|| self.try_list_transactions(filter)).await
    }

    async fn try_list_transactions(&self, filter: &TransactionFilter) -> Result<Vec<TransactionListing>> {
        let request = ListTransactionsRequest {
            state_filters: filter
                .states
                .iter()
                .map(|name| Text::from(name.as_str()))
                .collect(),
            producer_id_filters: filter.producers.clone(),
            ..Default::default()
        };
        let mut found = Vec::new();
        for broker in self.client.metadata().brokers.values() {
            let address = broker.address();
            let connection = self.client.connection(&address, Purpose::Requests).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, None, || format!("transactions of {address}"))?;
            if let Some(unknown) = answer.unknown_state_filters.first() {
                return Err(Error::Invalid(format!(
                    "'{}' is no state of a transaction",
                    &**unknown
                )));
            }
            found.extend(
                answer
                    .transaction_states
                    .into_iter()
                    .map(|listed| TransactionListing {
                        id: listed.transactional_id.to_string(),
                        coordinator: broker.id,
                        producer_id: listed.producer_id,
                        state: listed.transaction_state.to_string(),
                    }),
            );
        }
        found.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// A transactional id and its transaction; `None` if its coordinator does not know it.
    ///
    /// # Errors
    /// The coordinator refuses or cannot be reached.
    pub async fn describe_transaction(&self, id: &str) -> Result<Option<TransactionDescription>> {
        self.client.retry(|| self.try_describe_transaction(id)).await
    }

    async fn try_describe_transaction(&self, id: &str) -> Result<Option<TransactionDescription>> {
        let coordinator = self.client.transaction_coordinator(id).await?;
        let connection = self
            .client
            .connection(&coordinator.address(), Purpose::Requests)
            .await?;
        let request = DescribeTransactionsRequest {
            transactional_ids: vec![Text::from(id)],
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let what = || format!("transactional id '{id}'");
        let Some(found) = answer.transaction_states.into_iter().next() else {
            return Err(said_nothing(what()));
        };
        if found.error_code == ErrorCode::TransactionalIdNotFound.code() {
            return Ok(None);
        }
        Error::check(found.error_code, None, what)?;
        Ok(Some(TransactionDescription::of(id, &coordinator, found)))
    }

    /// The producers that partitions know, by partition. A partition of which no leader can tell has the error of its own:
    /// an unknown one may be a view, which nobody writes to.
    ///
    /// # Errors
    /// There is no broker to ask.
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<Vec<ProducerDescription>>>> {
        let mut topics: Vec<&str> = partitions.iter().map(|at| at.topic.as_str()).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut retries = self.client.retries();
        let mut found = BTreeMap::new();
        let mut open = partitions.to_vec();
        loop {
            let seen = self.client.metadata();
            let told = self.ask_leaders_for_producers(&open).await;
            open = told
                .iter()
                .filter(|(_, told)| passes(told))
                .map(|(at, _)| at.clone())
                .collect();
            let passing = told
                .values()
                .find(|told| passes(told))
                .and_then(|told| told.clone().err());
            found.extend(told);
            let Some(error) = passing else { return Ok(found) };
            if !retries.again(&error).await {
                return Ok(found);
            }
            self.client.refresh(&topics, &seen).await?;
        }
    }

    /// Asks every leader once for all of its partitions among these.
    async fn ask_leaders_for_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> BTreeMap<TopicPartition, Result<Vec<ProducerDescription>>> {
        let mut found = BTreeMap::new();
        let mut by_leader: BTreeMap<String, Vec<&TopicPartition>> = BTreeMap::new();
        for at in partitions {
            match self.client.leader_broker(at) {
                Ok(leader) => by_leader.entry(leader.address()).or_default().push(at),
                Err(error) => drop(found.insert(at.clone(), Err(error))),
            }
        }
        for (address, led) in by_leader {
            let mut told = match self.ask_for_producers(&address, &led).await {
                Ok(told) => told,
                Err(error) => {
                    found.extend(led.into_iter().map(|at| (at.clone(), Err(error.clone()))));
                    continue;
                }
            };
            for at in led {
                let answer = told
                    .remove(at)
                    .unwrap_or_else(|| Err(said_nothing(format!("producers of {at}"))));
                found.insert(at.clone(), answer);
            }
        }
        found
    }

    async fn ask_for_producers(
        &self,
        address: &str,
        partitions: &[&TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<Vec<ProducerDescription>>>> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for at in partitions {
            topics.entry(&at.topic).or_default().push(at.partition);
        }
        let topic = |(name, partition_indexes)| TopicRequest {
            name: Text::from(name),
            partition_indexes,
            ..Default::default()
        };
        let request = DescribeProducersRequest {
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        };
        let connection = self.client.connection(address, Purpose::Requests).await?;
        let answer = connection.call(&request).await?;
        let mut found = BTreeMap::new();
        for topic in answer.topics {
            for told in topic.partitions {
                let at = TopicPartition::new(&*topic.name, told.partition_index);
                let producers = producers(&at, told);
                found.insert(at, producers);
            }
        }
        Ok(found)
    }

    /// Ends a producer's transaction in one partition by a marker, without its coordinator: what it wrote there is never
    /// seen by readers of committed records. For transactions that hang, and for no others: of one that its coordinator
    /// commits, the other partitions would keep what this one loses.
    ///
    /// # Errors
    /// The partition does not exist; the producer has a newer epoch there.
    pub async fn abort_in_partition(
        &self,
        at: &TopicPartition,
        producer: &ProducerDescription,
    ) -> Result<()> {
        let what = || {
            format!(
                "aborting the transaction of producer {} in {at}",
                producer.producer_id
            )
        };
        let topic = WritableTxnMarkerTopic {
            name: Text::from(at.topic.as_str()),
            partition_indexes: vec![at.partition],
            ..Default::default()
        };
        let marker = WritableTxnMarker {
            producer_id: producer.producer_id,
            producer_epoch: i16::try_from(producer.producer_epoch)
                .map_err(|_| Error::Invalid(format!("{}: its epoch is none", what())))?,
            transaction_result: false,
            topics: vec![topic],
            // A producer that has ended no transaction yet has had no coordinator: Kafka's tool says 0, too.
            coordinator_epoch: producer.coordinator_epoch.max(0),
            ..Default::default()
        };
        let request = WriteTxnMarkersRequest {
            markers: vec![marker],
            ..Default::default()
        };
        self.client.topic(&at.topic, false).await?;
        self.client
            .retry(|| async {
                let seen = self.client.metadata();
                let answer = ask_leader(&self.client, at, &seen, &request).await?;
                let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
                let mut partitions = topics.flat_map(|topic| &topic.partitions);
                let Some(told) = partitions.find(|told| told.partition_index == at.partition) else {
                    return Err(said_nothing(what()));
                };
                let checked = Error::check(told.error_code, None, what);
                refreshed(&self.client, &at.topic, &seen, checked).await
            })
            .await
    }
}

impl TransactionDescription {
    fn of(id: &str, coordinator: &Broker, told: TransactionState) -> Self {
        let partitions = told.topics.into_iter().flat_map(|topic| {
            let at = move |partition| TopicPartition::new(&*topic.topic, partition);
            topic.partitions.into_iter().map(at)
        });
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort_unstable();
        Self {
            id: id.to_owned(),
            coordinator: coordinator.id,
            state: told.transaction_state.to_string(),
            producer_id: told.producer_id,
            producer_epoch: told.producer_epoch,
            timeout_ms: told.transaction_timeout_ms,
            started_ms: (told.transaction_start_time_ms > 0).then_some(told.transaction_start_time_ms),
            partitions,
        }
    }
}

impl From<ProducerState> for ProducerDescription {
    fn from(told: ProducerState) -> Self {
        Self {
            producer_id: told.producer_id,
            producer_epoch: told.producer_epoch,
            coordinator_epoch: told.coordinator_epoch,
            last_sequence: told.last_sequence,
            last_timestamp_ms: told.last_timestamp,
            transaction_start: (told.current_txn_start_offset >= 0).then_some(told.current_txn_start_offset),
        }
    }
}

fn producers(at: &TopicPartition, told: PartitionResponse) -> Result<Vec<ProducerDescription>> {
    let message = told.error_message.as_deref();
    Error::check(told.error_code, message, || format!("producers of {at}"))?;
    Ok(told.active_producers.into_iter().map(Into::into).collect())
}

/// Whether a partition is to be asked about again. One that is unknown to its leader has no log.
fn passes(told: &Result<Vec<ProducerDescription>>) -> bool {
    told.as_ref()
        .is_err_and(|error| error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicOrPartition))
}
