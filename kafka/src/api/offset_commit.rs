//! OffsetCommit: how far a group has read.

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Offsets of a group.
    pub struct OffsetCommitRequest {
        /// Id of the group.
        group_id: Text, ..;
        /// Generation of the group, or epoch of the member; -1 without membership.
        generation_id_or_member_epoch: i32 = -1, ..;
        /// Id of the member.
        member_id: Text, ..;
        /// Name that the member keeps over restarts.
        group_instance_id: Option<Text>, 7..;
        /// How long to keep the offsets; -1 leaves it to the broker.
        retention_time_ms: i64 = -1, ..=4;
        /// The topics.
        topics: Vec<OffsetCommitRequestTopic>, ..;
    }

    /// Offsets in a topic.
    pub struct OffsetCommitRequestTopic {
        /// Its name.
        name: Text, ..=9;
        /// Its id.
        topic_id: Uuid, 10..;
        /// The partitions.
        partitions: Vec<OffsetCommitRequestPartition>, ..;
    }

    /// Offset in a partition.
    pub struct OffsetCommitRequestPartition {
        /// Its index.
        partition_index: i32, ..;
        /// Offset of the next record to read.
        committed_offset: i64, ..;
        /// Epoch of the last record that was read; -1 if that is not known.
        committed_leader_epoch: i32 = -1, 6..;
        /// Whatever the member wants to remember.
        committed_metadata: Option<Text>, ..;
    }

    /// What became of the offsets.
    pub struct OffsetCommitResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, 3..;
        /// The topics.
        topics: Vec<OffsetCommitResponseTopic>, ..;
    }

    /// What became of the offsets in a topic.
    pub struct OffsetCommitResponseTopic {
        /// Its name.
        name: Text, ..=9;
        /// Its id.
        topic_id: Uuid, 10..;
        /// The partitions.
        partitions: Vec<OffsetCommitResponsePartition>, ..;
    }

    /// What became of the offset in a partition.
    pub struct OffsetCommitResponsePartition {
        /// Its index.
        partition_index: i32, ..;
        /// Error code.
        error_code: i16, ..;
    }
}

request!(OffsetCommit: OffsetCommitRequest => OffsetCommitResponse, versions 2..=10, flexible 8..);
