//! TxnOffsetCommit: how far a group has read, as a part of a transaction (KIP-98, KIP-447).

use std::sync::Arc;

use millstream_core::cluster::CONSUMER_OFFSETS;
use millstream_core::group::{Identity, OffsetCommit, TxnCommitRequest};
use millstream_core::transaction::Producer;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::{self, code};
use crate::coordinators::machine::Step;
use crate::coordinators::transaction;

/// Answers when the offsets are as safe as any; they count once the transaction is committed.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let mut offsets = Vec::new();
    // One for each partition, in the order of the request; and which of them are those of the offsets.
    let mut codes = Vec::new();
    let mut places = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            if context.topics.has_partition(&topic.name, asked.partition_index) {
                places.push(codes.len());
                offsets.push(offset(topic.name.to_string(), asked));
            }
            codes.push(ErrorCode::UnknownTopicOrPartition);
        }
    }
    let committed = commit(context, version, &request, offsets).await;
    for (n, place) in places.into_iter().enumerate() {
        codes[place] = committed
            .as_ref()
            .map_or_else(|code| *code, |committed| committed[n]);
    }
    let mut codes = codes.into_iter();
    let mut answer = |asked: TxnOffsetCommitRequestPartition| TxnOffsetCommitResponsePartition {
        partition_index: asked.partition_index,
        error_code: codes.next().unwrap_or(ErrorCode::UnknownServerError).code(),
        ..Default::default()
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(&mut answer).collect(),
            ..Default::default()
        });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn offset(topic: String, asked: &TxnOffsetCommitRequestPartition) -> OffsetCommit {
    OffsetCommit {
        topic,
        partition: asked.partition_index,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked
            .committed_metadata
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}

async fn commit(
    context: &Arc<Context>,
    version: i16,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<OffsetCommit>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let shard = context.groups.shard(&request.group_id).map_err(code)?;
    let producer = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let partition = group::partition_of(context, &request.group_id)?;
    let (id, adds) = (&request.transactional_id, version >= ADDS_PARTITION_FROM_VERSION);
    let guard = shard.begin_verification((producer.id, producer.epoch), adds);
    transaction::take_part(context, id, producer, CONSUMER_OFFSETS, &[partition], adds)
        .await
        .map_err(|code| match code {
            ErrorCode::ConcurrentTransactions => ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            code => code,
        })?;
    let asked = TxnCommitRequest {
        who: Identity {
            group: request.group_id.to_string(),
            member: request.member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(ToString::to_string),
            generation: request.generation_id,
        },
        producer: (producer.id, producer.epoch),
        offsets,
    };
    let answers = shard.call(|groups, now_ms| {
        let (answers, step) = groups.txn_commit(now_ms, &asked);
        let mut step = Step::from(step);
        step.guard = guard;
        (answers, step)
    });
    let answers = answers.await.and_then(|answers| answers).map_err(code)?;
    let codes = answers.into_iter();
    Ok(codes
        .map(|answer| answer.err().map_or(ErrorCode::None, code))
        .collect())
}

/// Version from which on the partition that keeps the group is added to the transaction (KIP-890).
const ADDS_PARTITION_FROM_VERSION: i16 = 5;
