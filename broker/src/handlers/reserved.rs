//! Groups and transactional ids that belong to brokers: clients may look at them, and nothing else.
//!
//! Transforms keep their offsets in such groups and write under such ids. The check is made where requests of clients come
//! in; brokers, which go by the same handlers, never pass here.

use millstream_core::cluster::is_reserved;
use millstream_kafka::api::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use millstream_kafka::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};
use millstream_kafka::api::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use millstream_kafka::api::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use millstream_kafka::api::end_txn::{EndTxnRequest, EndTxnResponse};
use millstream_kafka::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use millstream_kafka::api::join_group::{JoinGroupRequest, JoinGroupResponse};
use millstream_kafka::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_kafka::api::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use millstream_kafka::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use millstream_kafka::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use millstream_kafka::wire::Text;
use millstream_kafka::{ErrorCode, Request};

use crate::connection::Disconnect;

/// A request that changes groups or transactions, which it names.
pub trait Guarded: Request {
    /// What is to become of it, when a client sends it.
    fn guard(&mut self) -> Guard<Self::Response>;
}

/// What becomes of a client's request.
pub enum Guard<A> {
    /// It goes on.
    Free,
    /// It is answered so.
    Refused(A),
    /// What is left of it goes on; the answer gets more before it is sent.
    Partly(Box<dyn FnOnce(&mut A) + Send>),
}

impl Guarded for InitProducerIdRequest {
    fn guard(&mut self) -> Guard<InitProducerIdResponse> {
        refused(self.transactional_id.as_deref().and_then(of_id), |code| {
            InitProducerIdResponse {
                error_code: code.code(),
                producer_epoch: -1,
                ..Default::default()
            }
        })
    }
}

impl Guarded for EndTxnRequest {
    fn guard(&mut self) -> Guard<EndTxnResponse> {
        refused(of_id(&self.transactional_id), |code| EndTxnResponse {
            error_code: code.code(),
            ..Default::default()
        })
    }
}

impl Guarded for AddOffsetsToTxnRequest {
    fn guard(&mut self) -> Guard<AddOffsetsToTxnResponse> {
        let code = of_id(&self.transactional_id).or_else(|| of_group(&self.group_id));
        refused(code, |code| AddOffsetsToTxnResponse {
            error_code: code.code(),
            ..Default::default()
        })
    }
}

impl Guarded for AddPartitionsToTxnRequest {
    fn guard(&mut self) -> Guard<AddPartitionsToTxnResponse> {
        if let Some(code) = of_id(&self.v3_and_below_transactional_id) {
            return Guard::Refused(AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: of_topics(&self.v3_and_below_topics, code),
                ..Default::default()
            });
        }
        let taken = self
            .transactions
            .extract_if(.., |asked| is_reserved(&asked.transactional_id));
        let refused = taken.map(|asked| AddPartitionsToTxnResult {
            topic_results: of_topics(&asked.topics, ErrorCode::TransactionalIdAuthorizationFailed),
            transactional_id: asked.transactional_id,
            ..Default::default()
        });
        let refused: Vec<_> = refused.collect();
        partly(refused, |answer: &mut AddPartitionsToTxnResponse| {
            &mut answer.results_by_transaction
        })
    }
}

impl Guarded for TxnOffsetCommitRequest {
    fn guard(&mut self) -> Guard<TxnOffsetCommitResponse> {
        let code = of_id(&self.transactional_id).or_else(|| of_group(&self.group_id));
        refused(code, |code| {
            let topics = self.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|asked| TxnOffsetCommitResponsePartition {
                        partition_index: asked.partition_index,
                        error_code: code.code(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            TxnOffsetCommitResponse {
                topics: topics.collect(),
                ..Default::default()
            }
        })
    }
}

impl Guarded for OffsetCommitRequest {
    fn guard(&mut self) -> Guard<OffsetCommitResponse> {
        refused(of_group(&self.group_id), |code| {
            let topics = self.topics.iter().map(|topic| OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|asked| OffsetCommitResponsePartition {
                        partition_index: asked.partition_index,
                        error_code: code.code(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            OffsetCommitResponse {
                topics: topics.collect(),
                ..Default::default()
            }
        })
    }
}

impl Guarded for OffsetDeleteRequest {
    fn guard(&mut self) -> Guard<OffsetDeleteResponse> {
        refused(of_group(&self.group_id), |code| OffsetDeleteResponse {
            error_code: code.code(),
            ..Default::default()
        })
    }
}

impl Guarded for DeleteGroupsRequest {
    fn guard(&mut self) -> Guard<DeleteGroupsResponse> {
        let taken = self.groups_names.extract_if(.., |group| is_reserved(group));
        let refused = taken.map(|group_id| DeletableGroupResult {
            group_id,
            error_code: ErrorCode::GroupAuthorizationFailed.code(),
            ..Default::default()
        });
        let refused: Vec<_> = refused.collect();
        partly(refused, |answer: &mut DeleteGroupsResponse| &mut answer.results)
    }
}

impl Guarded for JoinGroupRequest {
    fn guard(&mut self) -> Guard<JoinGroupResponse> {
        refused(of_group(&self.group_id), |code| JoinGroupResponse {
            error_code: code.code(),
            member_id: self.member_id.clone(),
            ..Default::default()
        })
    }
}

impl Guarded for ConsumerGroupHeartbeatRequest {
    fn guard(&mut self) -> Guard<ConsumerGroupHeartbeatResponse> {
        refused(of_group(&self.group_id), |code| ConsumerGroupHeartbeatResponse {
            error_code: code.code(),
            error_message: Some(Text::from(code.message())),
            ..Default::default()
        })
    }
}

impl Guarded for ProduceRequest {
    fn guard(&mut self) -> Guard<ProduceResponse> {
        refused(self.transactional_id.as_deref().and_then(of_id), |code| {
            let partition = |data: &PartitionProduceData| PartitionProduceResponse {
                index: data.index,
                error_code: code.code(),
                base_offset: -1,
                error_message: Some(Text::from(code.message())),
                ..Default::default()
            };
            let topics = self.topic_data.iter().map(|topic| TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: topic.partition_data.iter().map(partition).collect(),
                ..Default::default()
            });
            ProduceResponse {
                responses: topics.collect(),
                ..Default::default()
            }
        })
    }
}

/// How a client hears of a refusal that waits for no answer.
pub fn unanswered() -> Disconnect {
    Disconnect::Malformed("a produce request with acks=0 failed".to_owned())
}

/// Why a client may do nothing under a transactional id, if it may not.
fn of_id(id: &str) -> Option<ErrorCode> {
    is_reserved(id).then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

fn of_group(group: &str) -> Option<ErrorCode> {
    is_reserved(group).then_some(ErrorCode::GroupAuthorizationFailed)
}

fn refused<A>(code: Option<ErrorCode>, answer: impl FnOnce(ErrorCode) -> A) -> Guard<A> {
    code.map_or(Guard::Free, |code| Guard::Refused(answer(code)))
}

/// Puts what was refused behind the other results.
fn partly<A, T: Send + 'static>(
    refused: Vec<T>,
    results: impl FnOnce(&mut A) -> &mut Vec<T> + Send + 'static,
) -> Guard<A> {
    match refused.is_empty() {
        true => Guard::Free,
        false => Guard::Partly(Box::new(|answer| results(answer).extend(refused))),
    }
}

fn of_topics(topics: &[AddPartitionsToTxnTopic], code: ErrorCode) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: code.code(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    topics.collect()
}
