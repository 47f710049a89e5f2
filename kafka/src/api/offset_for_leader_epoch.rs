//! OffsetForLeaderEpoch: where a leader's epoch ended (KIP-101, KIP-320).

use crate::wire::Text;

codec! {
    /// Asks where epochs ended.
    pub struct OffsetForLeaderEpochRequest {
        /// Broker that asks; -1 for a consumer.
        replica_id: i32 = -2, 3..;
        /// The topics.
        topics: Vec<OffsetForLeaderTopic>, ..;
    }

    /// A topic.
    pub struct OffsetForLeaderTopic {
        /// Its name.
        topic: Text, ..;
        /// The partitions.
        partitions: Vec<OffsetForLeaderPartition>, ..;
    }

    /// A partition.
    pub struct OffsetForLeaderPartition {
        /// Its index.
        partition: i32, ..;
        /// Epoch of the leader that the asker knows; -1 for none.
        current_leader_epoch: i32 = -1, ..;
        /// The epoch that is asked about.
        leader_epoch: i32, ..;
    }

    /// Where epochs ended.
    pub struct OffsetForLeaderEpochResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, ..;
        /// The topics.
        topics: Vec<OffsetForLeaderTopicResult>, ..;
    }

    /// The answers for a topic.
    pub struct OffsetForLeaderTopicResult {
        /// Its name.
        topic: Text, ..;
        /// The partitions.
        partitions: Vec<EpochEndOffset>, ..;
    }

    /// Where an epoch of a partition ended.
    pub struct EpochEndOffset {
        /// Error code.
        error_code: i16, ..;
        /// Index of the partition.
        partition: i32, ..;
        /// The newest epoch that is not above the one asked about.
        leader_epoch: i32 = -1, ..;
        /// Offset behind its last record.
        end_offset: i64 = -1, ..;
    }
}

request!(
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
    versions 2..=4, flexible 4..
);
