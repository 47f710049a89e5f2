//! AlterPartitionReassignments: partitions move to other brokers (KIP-455).

use crate::wire::Text;

codec! {
    /// Moves partitions, or takes moves back.
    pub struct AlterPartitionReassignmentsRequest {
        /// How long the broker may take.
        timeout_ms: i32 = 60_000, ..;
        /// Whether a partition may get more or fewer replicas than it has (KIP-860).
        allow_replication_factor_change: bool = true, 1..;
        /// The topics.
        topics: Vec<ReassignableTopic>, ..;
    }

    /// A topic whose partitions move.
    pub struct ReassignableTopic {
        /// Its name.
        name: Text, ..;
        /// Its partitions.
        partitions: Vec<ReassignablePartition>, ..;
    }

    /// A partition that moves.
    pub struct ReassignablePartition {
        /// Its index.
        partition_index: i32, ..;
        /// Brokers that are to hold it, the preferred leader first; null takes back the move that is under way.
        replicas: Option<Vec<i32>>, ..;
    }

    /// Which moves have begun.
    pub struct AlterPartitionReassignmentsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Whether a partition could get more or fewer replicas.
        allow_replication_factor_change: bool = true, 1..;
        /// Error of the request as a whole, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// The topics that were asked for.
        responses: Vec<ReassignableTopicResponse>, ..;
    }

    /// Partitions of one topic.
    pub struct ReassignableTopicResponse {
        /// Name of the topic.
        name: Text, ..;
        /// The partitions that were asked for.
        partitions: Vec<ReassignablePartitionResponse>, ..;
    }

    /// What became of one partition.
    pub struct ReassignablePartitionResponse {
        /// Its index.
        partition_index: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
    }
}

request!(
    AlterPartitionReassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse,
    versions 0..=1, flexible 0..
);
