//! ListPartitionReassignments: which partitions are on their way to other brokers (KIP-455).

use crate::wire::Text;

codec! {
    /// Asks for moves that are under way.
    pub struct ListPartitionReassignmentsRequest {
        /// How long the broker may take.
        timeout_ms: i32 = 60_000, ..;
        /// The topics; null for all of them.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>, ..;
    }

    /// A topic that is asked for.
    pub struct ListPartitionReassignmentsTopics {
        /// Its name.
        name: Text, ..;
        /// Its partitions.
        partition_indexes: Vec<i32>, ..;
    }

    /// The moves.
    pub struct ListPartitionReassignmentsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// Topics of which partitions move.
        topics: Vec<OngoingTopicReassignment>, ..;
    }

    /// A topic of which partitions move.
    pub struct OngoingTopicReassignment {
        /// Its name.
        name: Text, ..;
        /// Its partitions that move.
        partitions: Vec<OngoingPartitionReassignment>, ..;
    }

    /// A partition that moves.
    pub struct OngoingPartitionReassignment {
        /// Its index.
        partition_index: i32, ..;
        /// Brokers that hold it now, with those that it moves to.
        replicas: Vec<i32>, ..;
        /// Those that did not hold it before.
        adding_replicas: Vec<i32>, ..;
        /// Those that will no longer hold it.
        removing_replicas: Vec<i32>, ..;
    }
}

request!(
    ListPartitionReassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse,
    versions 0..=0, flexible 0..
);
