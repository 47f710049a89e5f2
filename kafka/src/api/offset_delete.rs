//! OffsetDelete: a group forgets how far it read (KIP-496).

use crate::wire::Text;

codec! {
    /// Deletes committed offsets of a group.
    pub struct OffsetDeleteRequest {
        /// The group.
        group_id: Text, ..;
        /// Topics whose offsets go.
        topics: Vec<OffsetDeleteRequestTopic>, ..;
    }

    /// Partitions of one topic.
    pub struct OffsetDeleteRequestTopic {
        /// Name of the topic.
        name: Text, ..;
        /// Partitions whose offsets go.
        partitions: Vec<OffsetDeleteRequestPartition>, ..;
    }

    /// A partition whose offset goes.
    pub struct OffsetDeleteRequestPartition {
        /// Index of the partition.
        partition_index: i32, ..;
    }

    /// Which offsets are gone.
    pub struct OffsetDeleteResponse {
        /// Error of the group as a whole, or 0.
        error_code: i16, ..;
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// The topics that were asked for.
        topics: Vec<OffsetDeleteResponseTopic>, ..;
    }

    /// Partitions of one topic.
    pub struct OffsetDeleteResponseTopic {
        /// Name of the topic.
        name: Text, ..;
        /// The partitions that were asked for.
        partitions: Vec<OffsetDeleteResponsePartition>, ..;
    }

    /// What became of one partition's offset.
    pub struct OffsetDeleteResponsePartition {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse, versions 0..=0);
