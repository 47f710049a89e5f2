//! Every API of the codec, for the targets that read requests and responses.

use bytes::Bytes;
use millstream_kafka::api::*;
use millstream_kafka::wire::{Chunk, Message, Reader, Writer};
use millstream_kafka::{ApiKey, Request};

/// One of the two messages of an API.
pub trait Side {
    fn check<R: Request>(version: i16, body: Bytes);
}

/// Takes the API and its version from the first two bytes, and reads the rest as a message.
pub fn read<S: Side>(data: &[u8]) {
    let [key, version, body @ ..] = data else { return };
    let key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    // One beyond either end: there, everything is refused.
    let versions = key.versions();
    let count = i16::from(*version) % (versions.end() - versions.start() + 3);
    read_as::<S>(key, versions.start() - 1 + count, Bytes::copy_from_slice(body));
}

macro_rules! apis {
    ($( $key:ident => $module:ident :: $request:ident; )*) => {
        fn read_as<S: Side>(key: ApiKey, version: i16, body: Bytes) {
            match key {
                $( ApiKey::$key => S::check::<$module::$request>(version, body), )*
            }
        }
    };
}

apis! {
    Produce => produce::ProduceRequest;
    Fetch => fetch::FetchRequest;
    ListOffsets => list_offsets::ListOffsetsRequest;
    Metadata => metadata::MetadataRequest;
    OffsetCommit => offset_commit::OffsetCommitRequest;
    OffsetFetch => offset_fetch::OffsetFetchRequest;
    FindCoordinator => find_coordinator::FindCoordinatorRequest;
    JoinGroup => join_group::JoinGroupRequest;
    Heartbeat => heartbeat::HeartbeatRequest;
    LeaveGroup => leave_group::LeaveGroupRequest;
    SyncGroup => sync_group::SyncGroupRequest;
    DescribeGroups => describe_groups::DescribeGroupsRequest;
    ListGroups => list_groups::ListGroupsRequest;
    ApiVersions => api_versions::ApiVersionsRequest;
    CreateTopics => create_topics::CreateTopicsRequest;
    DeleteTopics => delete_topics::DeleteTopicsRequest;
    DeleteRecords => delete_records::DeleteRecordsRequest;
    InitProducerId => init_producer_id::InitProducerIdRequest;
    OffsetForLeaderEpoch => offset_for_leader_epoch::OffsetForLeaderEpochRequest;
    DescribeConfigs => describe_configs::DescribeConfigsRequest;
    AlterConfigs => alter_configs::AlterConfigsRequest;
    DescribeLogDirs => describe_log_dirs::DescribeLogDirsRequest;
    CreatePartitions => create_partitions::CreatePartitionsRequest;
    DeleteGroups => delete_groups::DeleteGroupsRequest;
    IncrementalAlterConfigs => incremental_alter_configs::IncrementalAlterConfigsRequest;
    OffsetDelete => offset_delete::OffsetDeleteRequest;
    ElectLeaders => elect_leaders::ElectLeadersRequest;
    AlterPartitionReassignments => alter_partition_reassignments::AlterPartitionReassignmentsRequest;
    ListPartitionReassignments => list_partition_reassignments::ListPartitionReassignmentsRequest;
    DescribeQuorum => describe_quorum::DescribeQuorumRequest;
    UpdateFeatures => update_features::UpdateFeaturesRequest;
    DescribeCluster => describe_cluster::DescribeClusterRequest;
    UnregisterBroker => unregister_broker::UnregisterBrokerRequest;
    ListConfigResources => list_config_resources::ListConfigResourcesRequest;
    DescribeTopicPartitions => describe_topic_partitions::DescribeTopicPartitionsRequest;
    AddPartitionsToTxn => add_partitions_to_txn::AddPartitionsToTxnRequest;
    AddOffsetsToTxn => add_offsets_to_txn::AddOffsetsToTxnRequest;
    EndTxn => end_txn::EndTxnRequest;
    TxnOffsetCommit => txn_offset_commit::TxnOffsetCommitRequest;
    WriteTxnMarkers => write_txn_markers::WriteTxnMarkersRequest;
    DescribeProducers => describe_producers::DescribeProducersRequest;
    DescribeTransactions => describe_transactions::DescribeTransactionsRequest;
    ListTransactions => list_transactions::ListTransactionsRequest;
    ConsumerGroupHeartbeat => consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
    ConsumerGroupDescribe => consumer_group_describe::ConsumerGroupDescribeRequest;
}

/// What is read can be written, and what was written once stays as it is.
pub fn check<M: Message>(version: i16, body: Bytes) {
    let Ok(message) = M::decode(&mut Reader::new(body), version) else {
        return;
    };
    let written = write(&message, version);
    let again = M::decode(&mut Reader::new(written.clone()), version).expect("what was written can be read");
    assert_eq!(write(&again, version), written);
}

fn write<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message
        .encode(&mut writer, version)
        .expect("what was read can be written");
    let mut bytes = Vec::new();
    for chunk in writer.finish() {
        match chunk {
            Chunk::Bytes(chunk) => bytes.extend_from_slice(&chunk),
            Chunk::External { .. } => unreachable!("what was read is in memory"),
        }
    }
    bytes.into()
}
