//! OffsetFetch: how far groups have read; several groups at a time from version 8 on (KIP-709).

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Asks for offsets.
    pub struct OffsetFetchRequest {
        /// Id of the group.
        group_id: Text, ..=7;
        /// The topics; null for all that the group has offsets in.
        topics: Option<Vec<OffsetFetchRequestTopic>>, ..=7, null 2..;
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup>, 8..;
        /// Whether to wait until open transactions can no longer change the offsets (KIP-447).
        require_stable: bool, 7..;
    }

    /// A topic.
    pub struct OffsetFetchRequestTopic {
        /// Its name.
        name: Text, ..=7;
        /// The partitions.
        partition_indexes: Vec<i32>, ..=7;
    }

    /// A group.
    pub struct OffsetFetchRequestGroup {
        /// Its id.
        group_id: Text, 8..;
        /// Id of the member that asks.
        member_id: Option<Text>, 9..;
        /// Epoch of the member; -1 without membership.
        member_epoch: i32 = -1, 9..;
        /// The topics; null for all that the group has offsets in.
        topics: Option<Vec<OffsetFetchRequestTopics>>, 8..;
    }

    /// A topic of a group.
    pub struct OffsetFetchRequestTopics {
        /// Its name.
        name: Text, 8..=9;
        /// Its id.
        topic_id: Uuid, 10..;
        /// The partitions.
        partition_indexes: Vec<i32>, 8..;
    }

    /// Offsets.
    pub struct OffsetFetchResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, 3..;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopic>, ..=7;
        /// Error code of the whole response.
        error_code: i16, 2..=7;
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup>, 8..;
    }

    /// Offsets in a topic.
    pub struct OffsetFetchResponseTopic {
        /// Its name.
        name: Text, ..=7;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition>, ..=7;
    }

    /// Offset in a partition.
    pub struct OffsetFetchResponsePartition {
        /// Its index.
        partition_index: i32, ..=7;
        /// Offset of the next record to read; -1 if none was committed.
        committed_offset: i64, ..=7;
        /// Epoch of the last record that was read; -1 if that is not known.
        committed_leader_epoch: i32 = -1, 5..=7;
        /// Whatever the member wanted to remember.
        metadata: Option<Text>, ..=7;
        /// Error code.
        error_code: i16, ..=7;
    }

    /// Offsets of a group.
    pub struct OffsetFetchResponseGroup {
        /// Its id.
        group_id: Text, 8..;
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics>, 8..;
        /// Error code.
        error_code: i16, 8..;
    }

    /// Offsets of a group in a topic.
    pub struct OffsetFetchResponseTopics {
        /// Its name.
        name: Text, 8..=9;
        /// Its id.
        topic_id: Uuid, 10..;
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions>, 8..;
    }

    /// Offset of a group in a partition.
    pub struct OffsetFetchResponsePartitions {
        /// Its index.
        partition_index: i32, 8..;
        /// Offset of the next record to read; -1 if none was committed.
        committed_offset: i64, 8..;
        /// Epoch of the last record that was read; -1 if that is not known.
        committed_leader_epoch: i32 = -1, 8..;
        /// Whatever the member wanted to remember.
        metadata: Option<Text>, 8..;
        /// Error code.
        error_code: i16, 8..;
    }
}

request!(OffsetFetch: OffsetFetchRequest => OffsetFetchResponse, versions 1..=10, flexible 6..);
