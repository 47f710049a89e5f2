//! ListOffsets: the offset of a time, of the beginning, of the end (KIP-79, KIP-734).

use crate::wire::Text;

codec! {
    /// Asks for offsets.
    pub struct ListOffsetsRequest {
        /// Broker that asks; -1 for a consumer.
        replica_id: i32 = -1, ..;
        /// 0 to read everything, 1 to read what is committed.
        isolation_level: i8, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopic>, ..;
        /// How long the broker may look in tiered storage.
        timeout_ms: i32, 10..;
    }

    /// A topic.
    pub struct ListOffsetsTopic {
        /// Its name.
        name: Text, ..;
        /// The partitions.
        partitions: Vec<ListOffsetsPartition>, ..;
    }

    /// A partition.
    pub struct ListOffsetsPartition {
        /// Its index.
        partition_index: i32, ..;
        /// Epoch of the leader that the asker knows; -1 for none.
        current_leader_epoch: i32 = -1, 4..;
        /// A time in milliseconds, or a negative number for a special place: -1 the end, -2 the beginning, the others as in KIP-734, 405, 1005 and 1023.
        timestamp: i64, ..;
    }

    /// Offsets.
    pub struct ListOffsetsResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, 2..;
        /// The topics.
        topics: Vec<ListOffsetsTopicResponse>, ..;
    }

    /// Offsets of a topic.
    pub struct ListOffsetsTopicResponse {
        /// Its name.
        name: Text, ..;
        /// The partitions.
        partitions: Vec<ListOffsetsPartitionResponse>, ..;
    }

    /// Offset of a partition.
    pub struct ListOffsetsPartitionResponse {
        /// Its index.
        partition_index: i32, ..;
        /// Error code.
        error_code: i16, ..;
        /// Time of the record at the offset; -1 if it was not looked at.
        timestamp: i64 = -1, ..;
        /// The offset; -1 if there is none.
        offset: i64 = -1, ..;
        /// Epoch of the leader that wrote the record.
        leader_epoch: i32 = -1, 4..;
    }
}

request!(ListOffsets: ListOffsetsRequest => ListOffsetsResponse, versions 1..=11, flexible 6..);
