//! What a partition of a transform writes: batches and its offset, in transactions of its own where these are promised.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::cluster::CONSUMER_OFFSETS;
use millstream_core::ids::BrokerId;
use millstream_core::transaction::Producer;
use millstream_kafka::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use millstream_kafka::api::end_txn::EndTxnRequest;
use millstream_kafka::api::init_producer_id::InitProducerIdRequest;
use millstream_kafka::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_kafka::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_kafka::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_kafka::wire::{Payload, Text};
use tokio::task::JoinSet;

use super::platform::{Patience, Place, Trouble, Who, ask, check, leader};
use crate::context::Context;
use crate::coordinators::group;

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

impl Who {
    /// Becomes the only one with the transactional id: whoever had it can write and commit no more, and what it had begun is
    /// aborted. Without one, it is a producer that nobody was.
    ///
    /// # Errors
    /// Nobody can say so now.
    pub async fn init(&self, context: &Arc<Context>) -> Result<Producer, Trouble> {
        let doing = "taking over";
        self.patiently(|| async {
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
        self.patiently(|| async {
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
        let mut patience = Patience::of(self);
        loop {
            parts.retain(|part| !part.batches.is_empty());
            if parts.is_empty() {
                return Ok(());
            }
            let Err(reason) = self.write_heads(context, &mut parts).await? else {
                patience.moved();
                continue;
            };
            if !patience.wait(&reason).await {
                return Err(Trouble::Passing(reason));
            }
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
                        Err(trouble) => {
                            let said = response.error_message.as_deref().unwrap_or_default();
                            return Err(trouble.because(said));
                        }
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
        self.patiently(|| async {
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
        self.patiently(|| async {
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

/// Longest time that a transaction may take before its coordinator aborts it.
const TRANSACTION_MS_MAX: i32 = 60_000;
/// Longest time that a leader may wait for its followers.
const PRODUCE_MS_MAX: i32 = 4_000;
/// Versions of the requests that brokers make of each other.
const INIT_VERSION: i16 = 5;
const ADD_VERSION: i16 = 5;
const PRODUCE_VERSION: i16 = 12;
const OFFSET_COMMIT_VERSION: i16 = 9;
const TXN_OFFSET_COMMIT_VERSION: i16 = 5;
const END_VERSION: i16 = 5;
