//! ElectLeaders: other replicas become leaders (KIP-183, KIP-460).

use crate::wire::Text;

codec! {
    /// Elects leaders.
    pub struct ElectLeadersRequest {
        /// 0 elects the preferred replica, 1 any live one where none is in sync.
        election_type: i8, 1..;
        /// The topics; null for all partitions that need it.
        topic_partitions: Option<Vec<TopicPartitions>>, ..;
        /// How long the broker may take.
        timeout_ms: i32 = 60_000, ..;
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// Name of the topic.
        topic: Text, ..;
        /// Its partitions.
        partitions: Vec<i32>, ..;
    }

    /// Who was elected.
    pub struct ElectLeadersResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error of the request as a whole, or 0.
        error_code: i16, 1..;
        /// The topics.
        replica_election_results: Vec<ReplicaElectionResult>, ..;
    }

    /// Partitions of one topic.
    pub struct ReplicaElectionResult {
        /// Name of the topic.
        topic: Text, ..;
        /// Its partitions.
        partition_result: Vec<PartitionResult>, ..;
    }

    /// What became of one election.
    pub struct PartitionResult {
        /// Index of the partition.
        partition_id: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
    }
}

request!(ElectLeaders: ElectLeadersRequest => ElectLeadersResponse, versions 0..=2, flexible 2..);
