//! The APIs of the protocol by their numbers.

use std::fmt;
use std::ops::RangeInclusive;

use crate::api;
use crate::wire::Message;

/// A request that an API is named after.
pub trait Request: Message {
    /// What it is answered with.
    type Response: Message;

    /// Its API.
    const KEY: ApiKey;

    /// Versions that can be encoded and decoded.
    const VERSIONS: RangeInclusive<i16>;

    /// Whether a version has tagged fields and compact lengths (KIP-482), in the request and in the response.
    fn is_flexible(version: i16) -> bool;
}

macro_rules! api_keys {
    ($( $(#[$meta:meta])* $key:ident = $number:literal, $module:ident :: $request:ident; )*) => {
        /// An API of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $( $(#[$meta])* $key = $number, )*
        }

        impl ApiKey {
            /// All of them, by ascending number.
            pub const ALL: &[Self] = &[ $( Self::$key, )* ];

            /// The API with a number, if it is one of these.
            pub const fn from_i16(number: i16) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$key), )*
                    _ => None,
                }
            }

            /// Kafka's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$key => stringify!($key), )*
                }
            }

            /// Versions that can be encoded and decoded.
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $( Self::$key => <api::$module::$request as Request>::VERSIONS, )*
                }
            }

            fn is_flexible(self, version: i16) -> bool {
                match self {
                    $( Self::$key => <api::$module::$request as Request>::is_flexible(version), )*
                }
            }
        }
    };
}

api_keys! {
    /// Records in.
    Produce = 0, produce::ProduceRequest;
    /// Records out.
    Fetch = 1, fetch::FetchRequest;
    /// Offsets by time.
    ListOffsets = 2, list_offsets::ListOffsetsRequest;
    /// Brokers, topics and who leads their partitions.
    Metadata = 3, metadata::MetadataRequest;
    /// A group's offsets in.
    OffsetCommit = 8, offset_commit::OffsetCommitRequest;
    /// A group's offsets out.
    OffsetFetch = 9, offset_fetch::OffsetFetchRequest;
    /// Who coordinates a group.
    FindCoordinator = 10, find_coordinator::FindCoordinatorRequest;
    /// A member comes, or a new generation begins.
    JoinGroup = 11, join_group::JoinGroupRequest;
    /// A member lives.
    Heartbeat = 12, heartbeat::HeartbeatRequest;
    /// Members go.
    LeaveGroup = 13, leave_group::LeaveGroupRequest;
    /// Assignments from the leader of a group to its members.
    SyncGroup = 14, sync_group::SyncGroupRequest;
    /// Groups in detail.
    DescribeGroups = 15, describe_groups::DescribeGroupsRequest;
    /// The groups that a broker coordinates.
    ListGroups = 16, list_groups::ListGroupsRequest;
    /// Which versions are offered.
    ApiVersions = 18, api_versions::ApiVersionsRequest;
    /// New topics.
    CreateTopics = 19, create_topics::CreateTopicsRequest;
    /// Topics go.
    DeleteTopics = 20, delete_topics::DeleteTopicsRequest;
    /// Records before an offset go.
    DeleteRecords = 21, delete_records::DeleteRecordsRequest;
    /// Identity of an idempotent producer.
    InitProducerId = 22, init_producer_id::InitProducerIdRequest;
    /// Where a leader's epoch ended.
    OffsetForLeaderEpoch = 23, offset_for_leader_epoch::OffsetForLeaderEpochRequest;
    /// Partitions join a transaction.
    AddPartitionsToTxn = 24, add_partitions_to_txn::AddPartitionsToTxnRequest;
    /// A group's offsets join a transaction.
    AddOffsetsToTxn = 25, add_offsets_to_txn::AddOffsetsToTxnRequest;
    /// A transaction is committed or aborted.
    EndTxn = 26, end_txn::EndTxnRequest;
    /// The end of a transaction, for the partitions that were in it.
    WriteTxnMarkers = 27, write_txn_markers::WriteTxnMarkersRequest;
    /// A group's offsets in, within a transaction.
    TxnOffsetCommit = 28, txn_offset_commit::TxnOffsetCommitRequest;
    /// Settings out.
    DescribeConfigs = 32, describe_configs::DescribeConfigsRequest;
    /// Settings in, all at once.
    AlterConfigs = 33, alter_configs::AlterConfigsRequest;
    /// What lies in the data folders.
    DescribeLogDirs = 35, describe_log_dirs::DescribeLogDirsRequest;
    /// More partitions for a topic.
    CreatePartitions = 37, create_partitions::CreatePartitionsRequest;
    /// Groups go.
    DeleteGroups = 42, delete_groups::DeleteGroupsRequest;
    /// Other replicas become leaders.
    ElectLeaders = 43, elect_leaders::ElectLeadersRequest;
    /// Settings in, one by one.
    IncrementalAlterConfigs = 44, incremental_alter_configs::IncrementalAlterConfigsRequest;
    /// Partitions move to other brokers.
    AlterPartitionReassignments = 45, alter_partition_reassignments::AlterPartitionReassignmentsRequest;
    /// Partitions that are moving.
    ListPartitionReassignments = 46, list_partition_reassignments::ListPartitionReassignmentsRequest;
    /// A group's offsets go.
    OffsetDelete = 47, offset_delete::OffsetDeleteRequest;
    /// Who decides on the cluster's metadata.
    DescribeQuorum = 55, describe_quorum::DescribeQuorumRequest;
    /// What the cluster's brokers do once all of them can.
    UpdateFeatures = 57, update_features::UpdateFeaturesRequest;
    /// The cluster's brokers.
    DescribeCluster = 60, describe_cluster::DescribeClusterRequest;
    /// Who writes to partitions.
    DescribeProducers = 61, describe_producers::DescribeProducersRequest;
    /// A broker is forgotten.
    UnregisterBroker = 64, unregister_broker::UnregisterBrokerRequest;
    /// Transactional ids in detail.
    DescribeTransactions = 65, describe_transactions::DescribeTransactionsRequest;
    /// The transactional ids that a broker coordinates.
    ListTransactions = 66, list_transactions::ListTransactionsRequest;
    /// A member of a group of the new protocol lives, comes or goes.
    ConsumerGroupHeartbeat = 68, consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
    /// Groups of the new protocol in detail.
    ConsumerGroupDescribe = 69, consumer_group_describe::ConsumerGroupDescribeRequest;
    /// What has configurations.
    ListConfigResources = 74, list_config_resources::ListConfigResourcesRequest;
    /// Partitions of topics, page by page.
    DescribeTopicPartitions = 75, describe_topic_partitions::DescribeTopicPartitionsRequest;
}

impl ApiKey {
    /// All of them, by ascending number.
    pub fn iter() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied()
    }

    /// Version of the header before a request of `version`, which need not be a version that we know.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the header before a response of `version`.
    ///
    /// ApiVersions has version 0 always: its answer must be readable before versions are known (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::ApiVersions && self.is_flexible(version))
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
