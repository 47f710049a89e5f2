//! Produce: records in.

use uuid::Uuid;

use crate::wire::{Payload, Text};

codec! {
    /// Record batches for partitions.
    pub struct ProduceRequest {
        /// Id of the producer's transactions, if it has them.
        transactional_id: Option<Text>, ..;
        /// Who must have the records before the answer: 0 nobody, 1 the leader, -1 all in-sync replicas.
        acks: i16, ..;
        /// How long the broker may wait for that.
        timeout_ms: i32, ..;
        /// The topics.
        topic_data: Vec<TopicProduceData>, ..;
    }

    /// Record batches for a topic.
    pub struct TopicProduceData {
        /// Its name.
        name: Text, ..=12;
        /// Its id.
        topic_id: Uuid, 13..;
        /// The partitions.
        partition_data: Vec<PartitionProduceData>, ..;
    }

    /// A record batch for a partition.
    pub struct PartitionProduceData {
        /// Index of the partition.
        index: i32, ..;
        /// The batch.
        records: Option<Payload>, ..;
    }

    /// What became of the batches.
    pub struct ProduceResponse {
        /// The topics.
        responses: Vec<TopicProduceResponse>, ..;
        /// How long the client was throttled.
        throttle_time_ms: i32, ..;
        /// Where the leaders are that the partitions name (KIP-951).
        node_endpoints: Vec<NodeEndpoint>, 10.., tag 0;
    }

    /// What became of a topic's batches.
    pub struct TopicProduceResponse {
        /// Its name.
        name: Text, ..=12;
        /// Its id.
        topic_id: Uuid, 13..;
        /// The partitions.
        partition_responses: Vec<PartitionProduceResponse>, ..;
    }

    /// What became of a partition's batch.
    pub struct PartitionProduceResponse {
        /// Index of the partition.
        index: i32, ..;
        /// Error code.
        error_code: i16, ..;
        /// Offset of the first record.
        base_offset: i64, ..;
        /// When the batch was appended, if the topic says so; -1 if it does not.
        log_append_time_ms: i64 = -1, ..;
        /// Where the log begins.
        log_start_offset: i64 = -1, 5..;
        /// The records that were refused (KIP-467).
        record_errors: Vec<BatchIndexAndErrorMessage>, 8..;
        /// Why the batch was refused.
        error_message: Option<Text>, 8..;
        /// Who leads the partition, if not this broker.
        current_leader: LeaderIdAndEpoch, 10.., tag 0;
    }

    /// A record that was refused.
    pub struct BatchIndexAndErrorMessage {
        /// Its position in the batch.
        batch_index: i32, 8..;
        /// Why.
        batch_index_error_message: Option<Text>, 8..;
    }

    /// A leader.
    pub struct LeaderIdAndEpoch {
        /// Its broker; -1 if there is none.
        leader_id: i32 = -1, 10..;
        /// Its epoch.
        leader_epoch: i32 = -1, 10..;
    }

    /// Where a broker is.
    pub struct NodeEndpoint {
        /// Its id.
        node_id: i32, 10..;
        /// Its host name.
        host: Text, 10..;
        /// Its port.
        port: i32, 10..;
        /// Its rack, if it has one.
        rack: Option<Text>, 10..;
    }
}

request!(Produce: ProduceRequest => ProduceResponse, versions 3..=13, flexible 9..);
