//! The coordinator of transactions: which partition of `__transaction_state` keeps a transactional id, and what is asked of
//! the broker that leads it, wherever that is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::cluster::TRANSACTION_STATE;
use millstream_core::transaction::{
    EndRequest, InitRequest, Producer, Step, TransactionConfig, TransactionError, Transactions, Version,
};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use millstream_kafka::wire::Text;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::machine::{Follow, Unserved};
use super::markers;
use super::places::{self, Internal, Places};
use super::shard::Shard;
use super::transactions::Decided;
use crate::context::Context;
use crate::handlers::among;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// All transactions that this broker coordinates.
pub struct TransactionCoordinator {
    places: Places<Transactions>,
    /// Held while shards start and stop. What is decided, until somebody tells the partitions.
    decided: Mutex<Option<mpsc::UnboundedReceiver<Follow<Decided>>>>,
    metrics: Arc<Metrics>,
}

/// Partitions, by topic.
pub type Touched = BTreeMap<Arc<str>, Vec<i32>>;

impl TransactionCoordinator {
    /// Coordinates nothing until [`TransactionCoordinator::image_changed`].
    ///
    /// # Panics
    /// Outside of a runtime: the shards will run on the one that this is called on.
    pub fn new(settings: &Settings, metrics: &Arc<Metrics>) -> Self {
        let config = TransactionConfig {
            timeout_ms_max: settings.transaction_max_timeout_ms,
            expiration_ms: i64::from(settings.transactional_id_expiration_ms),
            ..TransactionConfig::default()
        };
        let (follow_ups, decided) = mpsc::unbounded_channel();
        Self {
            places: Places::new(config, EXPIRY_INTERVAL_MS, follow_ups, metrics.clone()),
            metrics: metrics.clone(),
            decided: Mutex::new(Some(decided)),
        }
    }

    /// Starts and stops shards as this broker gains and loses the lead of partitions of `__transaction_state`. Called
    /// whenever another image is carried out; does not block.
    pub fn image_changed(&self, context: &Arc<Context>) {
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = context.topics.find(TRANSACTION_STATE, Uuid::nil()).ok();
        let wanted = topic.map_or_else(Vec::new, |topic| places::places(context, &topic));
        if !wanted.is_empty()
            && let Some(decided) = decided.take()
        {
            self.places.spawn(markers::tell(Arc::downgrade(context), decided));
        }
        self.places.serve(wanted, &context.shutdown);
    }

    /// Makes `__transaction_state` if there is none: Kafka, too, makes it for the first client that asks.
    ///
    /// # Errors
    /// The topic cannot be made.
    pub async fn ensure_started(&self, context: &Arc<Context>) -> Result<(), ErrorCode> {
        if self.places.is_started() {
            return Ok(());
        }
        let settings = &context.settings;
        let topic = Internal {
            name: TRANSACTION_STATE,
            partitions: settings.transaction_state_log_num_partitions,
            replication_factor: settings.transaction_state_log_replication_factor,
            min_insync_replicas: Some(settings.transaction_state_log_min_isr),
        };
        places::create(context, topic).await?;
        self.image_changed(context);
        Ok(())
    }

    /// The owner of a transactional id.
    ///
    /// # Errors
    /// There is no `__transaction_state` yet; or its partition that keeps the id is another broker's, or cannot be served.
    pub fn shard(&self, id: &str) -> Result<Arc<Shard<Transactions>>, Unserved> {
        self.places.shard(id)
    }

    /// The owner of the ids of one partition of `__transaction_state`.
    ///
    /// # Errors
    /// As [`TransactionCoordinator::shard`].
    pub fn shard_at(&self, partition: i32) -> Result<Arc<Shard<Transactions>>, Unserved> {
        self.places.shard_at(partition)
    }

    /// Every owner of transactional ids on this broker.
    pub fn shards(&self) -> Vec<Arc<Shard<Transactions>>> {
        self.places.shards()
    }

    /// Gives the producer that has a transactional id from now on.
    ///
    /// # Errors
    /// As [`Transactions::init`]; or this broker does not coordinate the id.
    pub async fn init(
        &self,
        context: &Arc<Context>,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        let init = |transactions: &Transactions, now_ms, fresh| {
            let request = InitRequest {
                timeout_ms,
                expected,
                fresh,
            };
            transactions.init(now_ms, id, request)
        };
        self.decide(context, id, init).await
    }

    /// Adds partitions to a producer's transaction, and with one of a topic that has a partitioner all that it may spread
    /// records to. While the markers of the one before are on their way it waits a little: clients that have to ask again
    /// wait longer.
    ///
    /// # Errors
    /// As [`Transactions::add`]; or this broker does not coordinate the id.
    pub async fn add(
        &self,
        context: &Context,
        id: &str,
        producer: Producer,
        touched: &Touched,
        version: Version,
    ) -> Result<(), ErrorCode> {
        let touched = &with_targets(context, touched);
        let deadline = Instant::now() + MARKERS_WAIT;
        loop {
            let shard = self.shard(id).map_err(unserved)?;
            let added = shard.call(|transactions, now_ms| {
                match transactions.add(now_ms, id, producer, touched, version) {
                    Ok(step) => (Ok(()), step),
                    Err(error) => (Err(error), Default::default()),
                }
            });
            match added.await.map_err(unserved)? {
                Err(TransactionError::ConcurrentTransactions) if Instant::now() < deadline => {
                    tokio::time::sleep(MARKERS_LOOK).await;
                }
                added => return added.map_err(|error| self.refuse(error)),
            }
        }
    }

    /// Whether a partition belongs to a producer's transaction.
    ///
    /// # Errors
    /// It does not; or this broker does not coordinate the id.
    pub fn verify(&self, id: &str, producer: Producer, topic: &str, partition: i32) -> Result<(), ErrorCode> {
        let shard = self.shard(id).map_err(unserved)?;
        let verified = shard.look(|transactions| transactions.verify(id, producer, topic, partition));
        verified.map_err(unserved)?.map_err(|error| self.refuse(error))
    }

    /// Decides a producer's transaction, and gives the producer of the next one.
    ///
    /// # Errors
    /// As [`Transactions::end`]; or this broker does not coordinate the id.
    pub async fn end(
        &self,
        context: &Arc<Context>,
        id: &str,
        request: EndRequest,
    ) -> Result<Producer, ErrorCode> {
        let end = |transactions: &Transactions, now_ms, fresh| match transactions.end(
            now_ms,
            id,
            EndRequest { fresh, ..request },
        ) {
            Ok((producer, step)) => (Ok(producer), step),
            Err(error) => (Err(error), Step::default()),
        };
        self.decide(context, id, end).await
    }

    /// Kafka's error code for a refusal, which is counted if it fences.
    fn refuse(&self, error: TransactionError) -> ErrorCode {
        if error == TransactionError::ProducerFenced {
            self.metrics.coordinators.fenced_producer();
        }
        code(error)
    }

    /// Has a decision made and written, with an id that no producer has had if it needs one.
    async fn decide(
        &self,
        context: &Arc<Context>,
        id: &str,
        work: impl Fn(&Transactions, i64, Option<i64>) -> (Result<Producer, TransactionError>, Step),
    ) -> Result<Producer, ErrorCode> {
        let shard = self.shard(id).map_err(unserved)?;
        let mut fresh = None;
        loop {
            let decided = shard.call(|transactions, now_ms| work(transactions, now_ms, fresh));
            match decided.await.map_err(unserved)? {
                Err(TransactionError::ProducerIdNeeded) if fresh.is_none() => {
                    fresh = Some(context.producer_ids.next(context).await?.0);
                }
                answer => return answer.map_err(|error| self.refuse(error)),
            }
        }
    }
}

/// What a transaction may write to that writes to these: a partitioner can choose any partition of its topic.
fn with_targets(context: &Context, touched: &Touched) -> Touched {
    let targets = |name: &Arc<str>, indexes: &Vec<i32>| match context.topics.find(name, Uuid::nil()) {
        Ok(topic) if topic.partitioner().is_some() => (0..topic.partition_count()).collect(),
        _ => indexes.clone(),
    };
    let each = touched.iter();
    each.map(|(name, indexes)| (name.clone(), targets(name, indexes)))
        .collect()
}

/// Asks the coordinator of a transactional id, wherever it is, whether partitions belong to the transaction; `adds` has
/// them belong to it from now on.
///
/// # Errors
/// One does not belong to it, or the producer has not the id; or nobody can say so now.
pub async fn take_part(
    context: &Arc<Context>,
    id: &str,
    producer: Producer,
    topic: &str,
    partitions: &[i32],
    adds: bool,
) -> Result<(), ErrorCode> {
    let image = context.controller.image();
    let coordinator = places::coordinator_of(&image, TRANSACTION_STATE, id);
    let coordinator = coordinator.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    if coordinator == context.node {
        return match adds {
            true => {
                let touched = Touched::from([(Arc::from(topic), partitions.to_vec())]);
                context
                    .transactions
                    .add(context, id, producer, &touched, Version::V2)
                    .await
            }
            false => partitions
                .iter()
                .try_for_each(|index| context.transactions.verify(id, producer, topic, *index)),
        };
    }
    let asked = AddPartitionsToTxnTransaction {
        transactional_id: Text::from(id),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        verify_only: !adds,
        topics: vec![AddPartitionsToTxnTopic {
            name: Text::from(topic),
            partitions: partitions.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = AddPartitionsToTxnRequest {
        transactions: vec![asked],
        ..Default::default()
    };
    let answer = among::ask(context, coordinator, ADD_PARTITIONS_VERSION, request).await;
    let answer = answer.map_err(|reason| {
        tracing::debug!(
            coordinator = coordinator.0,
            reason,
            "the coordinator of a transaction does not answer"
        );
        ErrorCode::CoordinatorNotAvailable
    })?;
    let results = answer.results_by_transaction.into_iter();
    let mut codes = results
        .flat_map(|result| result.topic_results)
        .flat_map(|topic| topic.results_by_partition)
        .map(|partition| ErrorCode::from_i16(partition.partition_error_code));
    let Some(first) = codes.next() else {
        return Err(ErrorCode::from_i16(answer.error_code));
    };
    match std::iter::once(first)
        .chain(codes)
        .find(|code| *code != ErrorCode::None)
    {
        Some(code) => Err(code),
        None => Ok(()),
    }
}

/// Kafka's error code for a coordinator that does not serve.
pub fn unserved(unserved: Unserved) -> ErrorCode {
    match unserved {
        Unserved::Loading => ErrorCode::CoordinatorLoadInProgress,
        Unserved::NotAvailable => ErrorCode::CoordinatorNotAvailable,
        Unserved::Elsewhere => ErrorCode::NotCoordinator,
    }
}

/// Kafka's error code for a refusal of the coordinator.
fn code(error: TransactionError) -> ErrorCode {
    match error {
        TransactionError::InvalidRequest => ErrorCode::InvalidRequest,
        TransactionError::InvalidTransactionTimeout => ErrorCode::InvalidTransactionTimeout,
        TransactionError::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
        TransactionError::ProducerFenced => ErrorCode::ProducerFenced,
        TransactionError::ConcurrentTransactions => ErrorCode::ConcurrentTransactions,
        TransactionError::InvalidTxnState => ErrorCode::InvalidTxnState,
        TransactionError::NotInTransaction => ErrorCode::TransactionAbortable,
        TransactionError::TooManyIds => ErrorCode::PolicyViolation,
        TransactionError::ProducerIdNeeded => ErrorCode::CoordinatorNotAvailable,
    }
}

/// Longest time that a transaction waits for the markers of the one before.
const MARKERS_WAIT: Duration = Duration::from_millis(100);
/// Pause between two looks whether they are written.
const MARKERS_LOOK: Duration = Duration::from_millis(1);
/// Version of AddPartitionsToTxn that brokers speak.
const ADD_PARTITIONS_VERSION: i16 = 5;
/// Pause between two looks for ids that nobody uses any more.
const EXPIRY_INTERVAL_MS: i64 = 3_600_000;
