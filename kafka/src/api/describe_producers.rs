//! DescribeProducers: who writes to partitions, and where their open transactions begin (KIP-664).

use crate::wire::Text;

codec! {
    /// Asks leaders for the producers that they know.
    pub struct DescribeProducersRequest {
        /// The topics.
        topics: Vec<TopicRequest>, ..;
    }

    /// Partitions of one topic.
    pub struct TopicRequest {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partition_indexes: Vec<i32>, ..;
    }

    /// The producers.
    pub struct DescribeProducersResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// The topics.
        topics: Vec<TopicResponse>, ..;
    }

    /// Partitions of one topic.
    pub struct TopicResponse {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partitions: Vec<PartitionResponse>, ..;
    }

    /// Producers of one partition.
    pub struct PartitionResponse {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// The producers.
        active_producers: Vec<ProducerState>, ..;
    }

    /// One producer.
    pub struct ProducerState {
        /// Its id.
        producer_id: i64, ..;
        /// Its epoch.
        producer_epoch: i32, ..;
        /// Sequence number of its last record; -1 if there is none.
        last_sequence: i32 = -1, ..;
        /// Time of its last record, in milliseconds since 1970; -1 if there is none.
        last_timestamp: i64 = -1, ..;
        /// Epoch of the coordinator that last ended a transaction of it; -1 if none has.
        coordinator_epoch: i32, ..;
        /// Where its open transaction begins; -1 if there is none.
        current_txn_start_offset: i64 = -1, ..;
    }
}

request!(DescribeProducers: DescribeProducersRequest => DescribeProducersResponse, versions 0..=0, flexible 0..);
