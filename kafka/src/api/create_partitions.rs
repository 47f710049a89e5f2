//! CreatePartitions: topics grow (KIP-195).

use crate::wire::Text;

codec! {
    /// Adds partitions to topics.
    pub struct CreatePartitionsRequest {
        /// The topics.
        topics: Vec<CreatePartitionsTopic>, ..;
        /// How long the broker may take.
        timeout_ms: i32, ..;
        /// Only says whether the partitions could be added.
        validate_only: bool, ..;
    }

    /// A topic that grows.
    pub struct CreatePartitionsTopic {
        /// Its name.
        name: Text, ..;
        /// How many partitions it is to have afterwards.
        count: i32, ..;
        /// Which brokers hold the new partitions; null leaves it to the controller.
        assignments: Option<Vec<CreatePartitionsAssignment>>, ..;
    }

    /// The brokers of one new partition.
    pub struct CreatePartitionsAssignment {
        /// Brokers that hold it, the preferred leader first.
        broker_ids: Vec<i32>, ..;
    }

    /// Which topics have grown.
    pub struct CreatePartitionsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every topic that was asked for.
        results: Vec<CreatePartitionsTopicResult>, ..;
    }

    /// What became of one topic.
    pub struct CreatePartitionsTopicResult {
        /// Its name.
        name: Text, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
    }
}

request!(CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse, versions 0..=3, flexible 2..);
