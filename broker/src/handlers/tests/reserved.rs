//! What belongs to brokers, when clients ask for it: by the way that their requests come.

use millstream_kafka::api::add_offsets_to_txn::AddOffsetsToTxnRequest;
use millstream_kafka::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use millstream_kafka::api::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use millstream_kafka::api::delete_groups::DeleteGroupsRequest;
use millstream_kafka::api::end_txn::EndTxnRequest;
use millstream_kafka::api::init_producer_id::InitProducerIdRequest;
use millstream_kafka::api::join_group::JoinGroupRequest;
use millstream_kafka::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_kafka::api::offset_delete::OffsetDeleteRequest;
use millstream_kafka::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_kafka::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_kafka::wire::Chunk;

use super::*;

const THEIRS: &str = "__transform.enrich";

impl World {
    /// Asks as a client does, in the newest version or this one.
    async fn ask<R: Request>(&self, version: Option<i16>, request: R) -> R::Response {
        let version = version.unwrap_or(*R::KEY.versions().end());
        let header = RequestHeader {
            api_key: R::KEY as i16,
            api_version: version,
            ..Default::default()
        };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        request.encode(&mut writer, version).unwrap();
        // The length of the frame is the connection's.
        let frame = joined(writer.finish());
        let reply = dispatch(self.context(), &mut self.info.clone(), frame).await;
        let Ok(Reply::Now(response)) = reply else {
            panic!("{} is not answered at once", R::KEY.name())
        };
        let mut reader = Reader::new(joined(response.chunks).slice(4..));
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).unwrap();
        R::Response::decode(&mut reader, version).unwrap()
    }
}

fn joined(chunks: Vec<Chunk>) -> Bytes {
    let bytes = chunks.into_iter().map(|chunk| match chunk {
        Chunk::Bytes(bytes) => bytes,
        Chunk::External { .. } => panic!("nothing is read from a file"),
    });
    bytes.flatten().collect::<Vec<u8>>().into()
}

const NO_ID: i16 = ErrorCode::TransactionalIdAuthorizationFailed as i16;
const NO_GROUP: i16 = ErrorCode::GroupAuthorizationFailed as i16;

#[tokio::test]
async fn clients_write_under_no_transactional_id_of_brokers() {
    let world = World::start().await;
    let id = Text::from(THEIRS);
    let init = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: 1000,
        ..Default::default()
    };
    assert_eq!(world.ask(None, init).await.error_code, NO_ID);
    let end = EndTxnRequest {
        transactional_id: id.clone(),
        ..Default::default()
    };
    assert_eq!(world.ask(None, end).await.error_code, NO_ID);
    let offsets = AddOffsetsToTxnRequest {
        transactional_id: id.clone(),
        group_id: Text::from("mine"),
        ..Default::default()
    };
    assert_eq!(world.ask(None, offsets).await.error_code, NO_ID);
    let data = PartitionProduceData {
        index: 3,
        ..Default::default()
    };
    let produce = ProduceRequest {
        transactional_id: Some(id),
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: Text::from("t"),
            partition_data: vec![data],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = world.ask(Some(11), produce).await;
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!((partition.index, partition.error_code), (3, NO_ID));
    world.end().await;
}

#[tokio::test]
async fn clients_add_partitions_to_their_own_transactions_only() {
    let world = World::start().await;
    let topics = || {
        vec![AddPartitionsToTxnTopic {
            name: Text::from("t"),
            partitions: vec![0, 1],
            ..Default::default()
        }]
    };
    let old = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: Text::from(THEIRS),
        v3_and_below_topics: topics(),
        ..Default::default()
    };
    let answer = world.ask(Some(3), old).await.results_by_topic_v3_and_below;
    let codes = answer[0]
        .results_by_partition
        .iter()
        .map(|p| p.partition_error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [NO_ID, NO_ID]);
    let of = |id: &str| AddPartitionsToTxnTransaction {
        transactional_id: Text::from(id),
        topics: topics(),
        ..Default::default()
    };
    let new = AddPartitionsToTxnRequest {
        transactions: vec![of(THEIRS), of("mine")],
        ..Default::default()
    };
    let answer = world.ask(None, new).await.results_by_transaction;
    let told = answer.iter().map(|result| {
        let partition = &result.topic_results[0].results_by_partition[0];
        (
            result.transactional_id.to_string(),
            partition.partition_error_code,
        )
    });
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("mine".to_owned(), unknown), (THEIRS.to_owned(), NO_ID)]
    );
    world.end().await;
}

#[tokio::test]
async fn clients_join_and_move_no_groups_of_brokers() {
    let world = World::start().await;
    let group = Text::from(THEIRS);
    let join = JoinGroupRequest {
        group_id: group.clone(),
        ..Default::default()
    };
    for version in [0, 9] {
        assert_eq!(world.ask(Some(version), join.clone()).await.error_code, NO_GROUP);
    }
    let beat = ConsumerGroupHeartbeatRequest {
        group_id: group.clone(),
        ..Default::default()
    };
    assert_eq!(world.ask(None, beat).await.error_code, NO_GROUP);
    let delete = OffsetDeleteRequest {
        group_id: group.clone(),
        ..Default::default()
    };
    assert_eq!(world.ask(None, delete).await.error_code, NO_GROUP);
    let commit = OffsetCommitRequest {
        group_id: group.clone(),
        topics: vec![OffsetCommitRequestTopic {
            name: Text::from("t"),
            partitions: vec![OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = world.ask(None, commit).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, NO_GROUP);
    let commit = |id: &str, group: &str| TxnOffsetCommitRequest {
        transactional_id: Text::from(id),
        group_id: Text::from(group),
        topics: vec![TxnOffsetCommitRequestTopic {
            name: Text::from("t"),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    for (id, group, code) in [("mine", THEIRS, NO_GROUP), (THEIRS, "mine", NO_ID)] {
        let answer = world.ask(None, commit(id, group)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, code);
    }
    let groups = DeleteGroupsRequest {
        groups_names: vec![group.clone(), Text::from("mine")],
        ..Default::default()
    };
    let results = world.ask(None, groups).await.results;
    let told: Vec<_> = results
        .iter()
        .map(|told| (&*told.group_id, told.error_code == NO_GROUP))
        .collect();
    assert_eq!(told, [("mine", false), (THEIRS, true)]);
    world.end().await;
}
