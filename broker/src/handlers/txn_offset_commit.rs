//! TxnOffsetCommit: how far a group has read, as a part of a transaction (KIP-98, KIP-447).

use std::sync::Arc;

use millstream_core::cluster::CONSUMER_OFFSETS;
use millstream_core::group::{Identity, OffsetCommit, TxnCommitRequest};
use millstream_core::transaction::Producer;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;
use crate::coordinators::machine::Step;
use crate::coordinators::{places, transaction};

/// Answers when the offsets are as safe as any; they count once the transaction is committed.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let mut offsets = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            offsets.push(OffsetCommit {
                topic: topic.name.to_string(),
                partition: asked.partition_index,
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: asked
                    .committed_metadata
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            });
        }
    }
    let exists: Vec<bool> = offsets
        .iter()
        .map(|asked| {
            let found = context.topics.find(&asked.topic, Uuid::nil());
            found.is_ok_and(|topic| (0..topic.partition_count()).contains(&asked.partition))
        })
        .collect();
    let mut known = exists.iter();
    offsets.retain(|_| known.next().is_some_and(|exists| *exists));
    let committed = commit(context, version, &request, offsets).await;
    let (mut exists, mut answered) = (exists.into_iter(), 0);
    let mut answer = |index| {
        let code = match (exists.next().unwrap_or_default(), &committed) {
            (false, _) => ErrorCode::UnknownTopicOrPartition,
            (true, Err(code)) => *code,
            (true, Ok(codes)) => {
                answered += 1;
                codes[answered - 1]
            }
        };
        TxnOffsetCommitResponsePartition {
            partition_index: index,
            error_code: code.code(),
            ..Default::default()
        }
    };
    let topics = request
        .topics
        .into_iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|asked| answer(asked.partition_index))
                .collect(),
            ..Default::default()
        });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

async fn commit(
    context: &Arc<Context>,
    version: i16,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<OffsetCommit>,
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let group = &request.group_id;
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let shard = context.groups.shard(group).map_err(code)?;
    let producer = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let count = context
        .topics
        .find(CONSUMER_OFFSETS, Uuid::nil())?
        .partition_count();
    let partition = places::partition_of(group, count.max(1));
    let guard = shard.begin_verification(
        (producer.id, producer.epoch),
        version >= ADDS_PARTITION_FROM_VERSION,
    );
    let (id, adds) = (&request.transactional_id, version >= ADDS_PARTITION_FROM_VERSION);
    transaction::take_part(context, id, producer, CONSUMER_OFFSETS, partition, adds)
        .await
        .map_err(|code| match code {
            ErrorCode::ConcurrentTransactions => ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            code => code,
        })?;
    let asked = TxnCommitRequest {
        who: Identity {
            group: group.to_string(),
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
