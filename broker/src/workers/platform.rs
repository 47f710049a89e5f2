//! What a partition of a transform asks of the cluster: to read, to write, to keep its offsets, to begin and end
//! transactions.
//!
//! All of it are requests of Kafka's protocol, answered by the handlers that clients reach too, here or on the broker that
//! is in charge. What passes is tried again until a deadline and never blamed on the plugin.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::cluster::{CONSUMER_OFFSETS, Guarantee, Image, TRANSACTION_STATE};
use millstream_core::ids::BrokerId;
use millstream_core::transaction::Producer;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use millstream_kafka::api::end_txn::EndTxnRequest;
use millstream_kafka::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use millstream_kafka::api::init_producer_id::InitProducerIdRequest;
use millstream_kafka::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_kafka::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_kafka::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponsePartitions,
};
use millstream_kafka::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_kafka::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_kafka::wire::{Payload, Text};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::context::Context;
use crate::coordinators::{group, places};
use crate::handlers::among::{self, Shared};
use crate::handlers::leaders;

/// Who asks: one partition of a source.
#[derive(Debug, Clone)]
pub struct Who {
    /// The source.
    pub topic: Text,
    /// Which of its partitions.
    pub partition: i32,
    /// The group that keeps its offset.
    pub group: Text,
    /// Its transactional id, if it has transactions.
    pub transactional_id: Option<Text>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It may be done later.
    Passing(String),
    /// Another one has taken over, or the transaction is over: whoever is in charge has to begin anew.
    Over(String),
    /// It is refused, and will be.
    Refused(String),
}

/// How far a partition of a source has been done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The offset of the next record.
    pub offset: i64,
    /// What was kept beside it.
    pub metadata: String,
}

/// Batches for one partition.
#[derive(Debug, Clone)]
pub struct Part {
    /// The topic.
    pub topic: Text,
    /// Which of its partitions.
    pub partition: i32,
    /// What it is to get, in this order.
    pub batches: VecDeque<Bytes>,
}

impl Trouble {
    /// What a code means.
    pub fn of(code: ErrorCode, doing: &str) -> Self {
        let text = format!("{doing}: {code}");
        match code {
            ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::InvalidTxnState
            | ErrorCode::TransactionAbortable
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::UnknownProducerId
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::DuplicateSequenceNumber
            | ErrorCode::TransactionCoordinatorFenced => Self::Over(text),
            // A coordinator that has not heard of a partition yet attempts nothing for the others.
            ErrorCode::UnknownServerError | ErrorCode::OperationNotAttempted => Self::Passing(text),
            code if code.retriable() => Self::Passing(text),
            _ => Self::Refused(text),
        }
    }

    /// For people.
    pub fn reason(self) -> String {
        match self {
            Self::Passing(reason) | Self::Over(reason) | Self::Refused(reason) => reason,
        }
    }
}

/// Tries again what passes, until `deadline`.
async fn patiently<T, F>(deadline: Instant, mut attempt: impl FnMut() -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        match attempt().await {
            Err(Trouble::Passing(reason)) => {
                if Instant::now() + pause > deadline {
                    return Err(Trouble::Passing(reason));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            done => return done,
        }
    }
}

/// Asks a broker.
async fn ask<R: Shared>(
    context: &Arc<Context>,
    broker: Option<BrokerId>,
    version: i16,
    request: R,
    doing: &str,
) -> Result<R::Response, Trouble> {
    let broker = broker.ok_or_else(|| Trouble::Passing(format!("{doing}: nobody is in charge")))?;
    let answer = among::ask_any(context, broker, version, request).await;
    answer.map_err(|reason| Trouble::Passing(format!("{doing}: broker {}: {reason}", broker.0)))
}

fn check(code: i16, doing: &str) -> Result<(), Trouble> {
    match ErrorCode::from_i16(code) {
        ErrorCode::None => Ok(()),
        code => Err(Trouble::of(code, doing)),
    }
}

fn leader(image: &Image, topic: &str, partition: i32) -> Option<BrokerId> {
    let topic = image.topic(topic)?;
    let leader = leaders::leader(image, topic.id.0, partition)?;
    (leader.id != leaders::NOBODY).then_some(BrokerId(leader.id))
}

/// Makes the topics that keep offsets and transactions, if they are not there.
///
/// # Errors
/// They cannot be made now.
pub async fn prepare(context: &Arc<Context>, guarantee: Guarantee) -> Result<(), Trouble> {
    let groups = context.groups.ensure_started(context).await;
    groups.map_err(|code| Trouble::of(code, "making the topic of offsets"))?;
    if guarantee == Guarantee::ExactlyOnce {
        let transactions = context.transactions.ensure_started(context).await;
        transactions.map_err(|code| Trouble::of(code, "making the topic of transactions"))?;
    }
    Ok(())
}

impl Who {
    fn coordinator(&self, context: &Context) -> Option<BrokerId> {
        let id = self.transactional_id.as_deref()?;
        places::coordinator_of(&context.controller.image(), TRANSACTION_STATE, id)
    }

    fn group_coordinator(&self, context: &Context) -> Option<BrokerId> {
        places::coordinator_of(&context.controller.image(), CONSUMER_OFFSETS, &self.group)
    }

    /// Becomes the only one with the transactional id: whoever had it can write and commit no more, and what it had begun is
    /// aborted. Without one, it is a producer that nobody was.
    ///
    /// # Errors
    /// Nobody can say so now.
    pub async fn init(&self, context: &Arc<Context>) -> Result<Producer, Trouble> {
        let doing = "taking over";
        patiently(Instant::now() + PATIENCE, || async {
            let request = InitProducerIdRequest {
                transactional_id: self.transactional_id.clone(),
                transaction_timeout_ms: TRANSACTION_MS_MAX.min(context.settings.transaction_max_timeout_ms),
                ..Default::default()
            };
            let coordinator = match self.transactional_id {
                Some(_) => self.coordinator(context),
                None => Some(context.node),
            };
            let answer = ask(context, coordinator, INIT_VERSION, request, doing).await?;
            check(answer.error_code, doing)?;
            Ok(Producer {
                id: answer.producer_id,
                epoch: answer.producer_epoch,
            })
        })
        .await
    }

    /// How far it is; none if nothing was committed yet. Waits for transactions that would change it.
    ///
    /// # Errors
    /// Nobody can say so now.
    pub async fn committed(&self, context: &Arc<Context>) -> Result<Option<Place>, Trouble> {
        let doing = "asking for the committed offset";
        let wanted = OffsetFetchRequestTopics {
            name: self.topic.clone(),
            partition_indexes: vec![self.partition],
            ..Default::default()
        };
        patiently(Instant::now() + PATIENCE, || async {
            let request = OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: self.group.clone(),
                    topics: Some(vec![wanted.clone()]),
                    ..Default::default()
                }],
                require_stable: true,
                ..Default::default()
            };
            let coordinator = self.group_coordinator(context);
            let answer = ask(context, coordinator, OFFSET_FETCH_VERSION, request, doing).await?;
            let mut groups = answer.groups.into_iter();
            let group = groups.next().ok_or_else(|| no_answer(doing))?;
            check(group.error_code, doing)?;
            let mut partitions = group.topics.into_iter().flat_map(|topic| topic.partitions);
            let found = partitions.next().ok_or_else(|| no_answer(doing))?;
            check(found.error_code, doing)?;
            Ok(place(found))
        })
        .await
    }

    /// The offset of a time, or of Kafka's -1 (the end, for readers of what is committed) and -2 (the beginning).
    ///
    /// # Errors
    /// Nobody can say so now.
    pub async fn offset_of(&self, context: &Arc<Context>, timestamp: i64) -> Result<i64, Trouble> {
        let doing = "asking for an offset";
        patiently(Instant::now() + PATIENCE, || async {
            let request = ListOffsetsRequest {
                isolation_level: READ_COMMITTED,
                topics: vec![ListOffsetsTopic {
                    name: self.topic.clone(),
                    partitions: vec![ListOffsetsPartition {
                        partition_index: self.partition,
                        timestamp,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let leader = leader(&context.controller.image(), &self.topic, self.partition);
            let answer = ask(context, leader, LIST_OFFSETS_VERSION, request, doing).await?;
            let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            let found = partitions.next().ok_or_else(|| no_answer(doing))?;
            check(found.error_code, doing)?;
            Ok(found.offset)
        })
        .await
    }

    /// What lies from `offset` on, as soon as there is some, or nothing when `wait` is over.
    ///
    /// # Errors
    /// Nobody can say so now; [`Trouble::Refused`] if the offset lies outside of the log.
    pub async fn read(
        &self,
        context: &Arc<Context>,
        offset: i64,
        bytes_max: i32,
        wait: Duration,
    ) -> Result<PartitionData, Trouble> {
        let doing = "reading";
        let leader = leader(&context.controller.image(), &self.topic, self.partition);
        // Others answer calls within a few seconds.
        let wait = match leader == Some(context.node) {
            true => wait,
            false => wait.min(REMOTE_WAIT_MAX),
        };
        let request = FetchRequest {
            max_wait_ms: wait.as_millis() as i32,
            min_bytes: 1,
            max_bytes: bytes_max,
            isolation_level: READ_COMMITTED,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: vec![FetchPartition {
                    partition: self.partition,
                    fetch_offset: offset,
                    partition_max_bytes: bytes_max,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask(context, leader, FETCH_VERSION, request, doing).await?;
        let mut partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        let data = partitions.next().ok_or_else(|| no_answer(doing))?;
        check(data.error_code, doing)?;
        Ok(data)
    }

    /// Says what a transaction is to touch: these partitions, and the one that keeps the offset.
    ///
    /// # Errors
    /// It is not the producer any more; or nobody can say so now.
    pub async fn begin(
        &self,
        context: &Arc<Context>,
        producer: Producer,
        parts: &[Part],
    ) -> Result<(), Trouble> {
        let doing = "beginning a transaction";
        let Some(id) = &self.transactional_id else {
            return Ok(());
        };
        let offsets = group::partition_of(context, &self.group).map_err(|code| Trouble::of(code, doing))?;
        let mut touched: BTreeMap<&str, Vec<i32>> = BTreeMap::from([(CONSUMER_OFFSETS, vec![offsets])]);
        for part in parts {
            touched.entry(&part.topic).or_default().push(part.partition);
        }
        let topics = touched
            .into_iter()
            .map(|(name, partitions)| AddPartitionsToTxnTopic {
                name: Text::from(name),
                partitions,
                ..Default::default()
            });
        let request = AddPartitionsToTxnRequest {
            transactions: vec![AddPartitionsToTxnTransaction {
                transactional_id: id.clone(),
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                topics: topics.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        patiently(Instant::now() + PATIENCE, || async {
            let coordinator = self.coordinator(context);
            let answer = ask(context, coordinator, ADD_VERSION, request.clone(), doing).await?;
            check(answer.error_code, doing)?;
            let results = answer.results_by_transaction.into_iter();
            let mut codes = results
                .flat_map(|result| result.topic_results)
                .flat_map(|topic| topic.results_by_partition)
                .map(|partition| partition.partition_error_code);
            codes.try_for_each(|code| check(code, doing))
        })
        .await
    }

    /// Writes batches and waits until they are as safe as any.
    ///
    /// # Errors
    /// A leader refuses one; or it is not taken in time.
    pub async fn write(&self, context: &Arc<Context>, mut parts: Vec<Part>) -> Result<(), Trouble> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSE_MIN;
        loop {
            parts.retain(|part| !part.batches.is_empty());
            if parts.is_empty() {
                return Ok(());
            }
            let Err(reason) = self.write_heads(context, &mut parts).await? else {
                pause = PAUSE_MIN;
                continue;
            };
            if Instant::now() + pause > deadline {
                return Err(Trouble::Passing(reason));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Writes the first batch of every part, and takes those away that are safe. Gives why others are not yet.
    async fn write_heads(
        &self,
        context: &Arc<Context>,
        parts: &mut [Part],
    ) -> Result<Result<(), String>, Trouble> {
        let image = context.controller.image();
        let mut by_leader: BTreeMap<BrokerId, Vec<TopicProduceData>> = BTreeMap::new();
        let mut later = Ok(());
        let mut taken = 0;
        for part in parts.iter() {
            let Some(leader) = leader(&image, &part.topic, part.partition) else {
                later = Err(format!("nobody leads {}-{}", part.topic, part.partition));
                continue;
            };
            let data = PartitionProduceData {
                index: part.partition,
                records: part.batches.front().cloned().map(Payload::Bytes),
                ..Default::default()
            };
            by_leader.entry(leader).or_default().push(TopicProduceData {
                name: part.topic.clone(),
                partition_data: vec![data],
                ..Default::default()
            });
        }
        let mut asked = JoinSet::new();
        for (leader, topic_data) in by_leader {
            let request = ProduceRequest {
                transactional_id: self.transactional_id.clone(),
                acks: -1,
                timeout_ms: PRODUCE_MS_MAX,
                topic_data,
                ..Default::default()
            };
            let context = context.clone();
            asked
                .spawn(async move { ask(&context, Some(leader), PRODUCE_VERSION, request, "writing").await });
        }
        while let Some(answer) = asked.join_next().await {
            let answer = match answer.map_err(|error| Trouble::Passing(error.to_string()))? {
                Ok(answer) => answer,
                Err(Trouble::Passing(reason)) => {
                    later = Err(reason);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            for topic in answer.responses {
                for response in topic.partition_responses {
                    let doing = format!("writing to {}-{}", topic.name, response.index);
                    let written = check(response.error_code, &doing);
                    match written {
                        Ok(()) => {
                            let same = |part: &&mut Part| {
                                part.topic == topic.name && part.partition == response.index
                            };
                            if let Some(part) = parts.iter_mut().find(same) {
                                part.batches.pop_front();
                                taken += 1;
                            }
                        }
                        Err(Trouble::Passing(reason)) => later = Err(reason),
                        Err(Trouble::Refused(reason)) => {
                            let said = response.error_message.as_deref().unwrap_or_default();
                            return Err(Trouble::Refused(format!("{reason} {said}").trim().to_owned()));
                        }
                        Err(trouble) => return Err(trouble),
                    }
                }
            }
        }
        Ok(match taken {
            0 => later.and(Err("writing: an answer without what was asked for".to_owned())),
            _ => later,
        })
    }

    /// Commits an offset: with the producer's transaction, or at once where there is none.
    ///
    /// # Errors
    /// It is not the producer any more; or nobody can say so now.
    pub async fn commit(
        &self,
        context: &Arc<Context>,
        producer: Producer,
        place: &Place,
    ) -> Result<(), Trouble> {
        patiently(Instant::now() + PATIENCE, || async {
            match &self.transactional_id {
                Some(id) => self.commit_in(context, id, producer, place).await,
                None => self.commit_at_once(context, place).await,
            }
        })
        .await
    }

    async fn commit_in(
        &self,
        context: &Arc<Context>,
        id: &Text,
        producer: Producer,
        place: &Place,
    ) -> Result<(), Trouble> {
        let doing = "committing an offset";
        let request = TxnOffsetCommitRequest {
            transactional_id: id.clone(),
            group_id: self.group.clone(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: self.topic.clone(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: self.partition,
                    committed_offset: place.offset,
                    committed_metadata: Some(Text::from(place.metadata.as_str())),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let coordinator = self.group_coordinator(context);
        let answer = ask(context, coordinator, TXN_OFFSET_COMMIT_VERSION, request, doing).await?;
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.try_for_each(|partition| check(partition.error_code, doing))
    }

    /// Writes an offset outside of any transaction.
    ///
    /// # Errors
    /// Nobody can take it now.
    pub async fn commit_at_once(&self, context: &Arc<Context>, place: &Place) -> Result<(), Trouble> {
        let doing = "committing an offset";
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: self.topic.clone(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: self.partition,
                    committed_offset: place.offset,
                    committed_metadata: Some(Text::from(place.metadata.as_str())),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let coordinator = self.group_coordinator(context);
        let answer = ask(context, coordinator, OFFSET_COMMIT_VERSION, request, doing).await?;
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.try_for_each(|partition| check(partition.error_code, doing))
    }

    /// Commits the transaction; gives the producer of the next one.
    ///
    /// # Errors
    /// It is not the producer any more; or nobody can say so now, and it may be committed or not.
    pub async fn end(&self, context: &Arc<Context>, producer: Producer) -> Result<Producer, Trouble> {
        let doing = "committing a transaction";
        let Some(id) = &self.transactional_id else {
            return Ok(producer);
        };
        patiently(Instant::now() + PATIENCE, || async {
            let request = EndTxnRequest {
                transactional_id: id.clone(),
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                committed: true,
                ..Default::default()
            };
            let answer = ask(context, self.coordinator(context), END_VERSION, request, doing).await?;
            check(answer.error_code, doing)?;
            Ok(Producer {
                id: answer.producer_id,
                epoch: answer.producer_epoch,
            })
        })
        .await
    }
}

fn place(found: OffsetFetchResponsePartitions) -> Option<Place> {
    (found.committed_offset >= 0).then(|| Place {
        offset: found.committed_offset,
        metadata: found.metadata.map(|text| text.to_string()).unwrap_or_default(),
    })
}

fn no_answer(doing: &str) -> Trouble {
    Trouble::Passing(format!("{doing}: an answer without what was asked for"))
}

/// Kafka's isolation level of readers that see only what is decided.
const READ_COMMITTED: i8 = 1;
/// How long something that passes is tried again.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Longest time that a transaction may take before its coordinator aborts it.
const TRANSACTION_MS_MAX: i32 = 60_000;
/// Longest time that a leader may wait for its followers.
const PRODUCE_MS_MAX: i32 = 4_000;
/// Longest time that another broker is to wait for records.
const REMOTE_WAIT_MAX: Duration = Duration::from_millis(500);
/// Versions of the requests that brokers make of each other.
const INIT_VERSION: i16 = 5;
const OFFSET_FETCH_VERSION: i16 = 9;
const LIST_OFFSETS_VERSION: i16 = 8;
const FETCH_VERSION: i16 = 12;
const ADD_VERSION: i16 = 5;
const PRODUCE_VERSION: i16 = 12;
const OFFSET_COMMIT_VERSION: i16 = 9;
const TXN_OFFSET_COMMIT_VERSION: i16 = 5;
const END_VERSION: i16 = 5;
