//! DeleteRecords: partitions forget their oldest records (KIP-107).

use crate::wire::Text;

codec! {
    /// Deletes records from the front of partitions.
    pub struct DeleteRecordsRequest {
        /// The topics.
        topics: Vec<DeleteRecordsTopic>, ..;
        /// How long the broker may take.
        timeout_ms: i32, ..;
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopic {
        /// Name of the topic.
        name: Text, ..;
        /// The partitions.
        partitions: Vec<DeleteRecordsPartition>, ..;
    }

    /// A partition that forgets.
    pub struct DeleteRecordsPartition {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Records before this offset go; -1 stands for the high watermark.
        offset: i64, ..;
    }

    /// Where the partitions begin now.
    pub struct DeleteRecordsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// The topics that were asked for.
        topics: Vec<DeleteRecordsTopicResult>, ..;
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopicResult {
        /// Name of the topic.
        name: Text, ..;
        /// The partitions that were asked for.
        partitions: Vec<DeleteRecordsPartitionResult>, ..;
    }

    /// What became of one partition.
    pub struct DeleteRecordsPartitionResult {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Its first offset.
        low_watermark: i64, ..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse, versions 0..=2, flexible 2..);
