//! AddPartitionsToTxn: what a transaction writes to (KIP-98). Producers say so before they write, or the leaders that they
//! write to ask whether they did, or say so in their place (KIP-890).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::transaction::{Producer, Version};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
};

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every partition.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    answer(context, version, request).await
}

/// Answers for every partition, whoever asks.
pub async fn answer(
    context: &Arc<Context>,
    version: i16,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if version < BATCHED_FROM_VERSION {
        let only = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            topics: request.v3_and_below_topics,
            ..Default::default()
        };
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: of_transaction(context, version, only).await,
            ..Default::default()
        };
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results.push(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: of_transaction(context, version, transaction).await,
            ..Default::default()
        });
    }
    AddPartitionsToTxnResponse {
        results_by_transaction: results,
        ..Default::default()
    }
}

async fn of_transaction(
    context: &Arc<Context>,
    version: i16,
    asked: AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let producer = Producer {
        id: asked.producer_id,
        epoch: asked.producer_epoch,
    };
    if asked.verify_only {
        return each(&asked.topics, |topic, index| {
            let verified = context
                .transactions
                .verify(&asked.transactional_id, producer, topic, index);
            verified.err().unwrap_or(ErrorCode::None)
        });
    }
    let exists = |topic: &str, index| context.topics.has_partition(topic, index);
    let all_exist = asked
        .topics
        .iter()
        .all(|topic| topic.partitions.iter().all(|index| exists(&topic.name, *index)));
    if !all_exist {
        return each(&asked.topics, |topic, index| match exists(topic, index) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        });
    }
    let mut touched: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for topic in &asked.topics {
        let indexes = touched.entry(Arc::from(&*topic.name)).or_default();
        indexes.extend(&topic.partitions);
    }
    let how = match version {
        ..=4 => Version::V1,
        _ => Version::V2,
    };
    let id = &asked.transactional_id;
    let added = context.transactions.add(context, id, producer, &touched, how);
    let code = match added.await {
        Ok(()) => ErrorCode::None,
        // The code came with version 2.
        Err(ErrorCode::ProducerFenced) if version < FENCED_FROM_VERSION => ErrorCode::InvalidProducerEpoch,
        Err(code) => code,
    };
    each(&asked.topics, |_, _| code)
}

fn each(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&str, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: code(&topic.name, *index).code(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    topics.collect()
}

/// Version from which on a request is about several transactions.
const BATCHED_FROM_VERSION: i16 = 4;
/// Version from which on clients know PRODUCER_FENCED.
const FENCED_FROM_VERSION: i16 = 2;
