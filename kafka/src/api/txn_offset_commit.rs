//! TxnOffsetCommit: offsets of a group that come into force with a transaction (KIP-98, KIP-447).

use crate::wire::Text;

codec! {
    /// Commits offsets within a transaction.
    pub struct TxnOffsetCommitRequest {
        /// Id of the producer's transactions.
        transactional_id: Text, ..;
        /// The group.
        group_id: Text, ..;
        /// The producer's id.
        producer_id: i64, ..;
        /// The producer's epoch.
        producer_epoch: i16, ..;
        /// Generation of the group, or epoch of the member; -1 if the consumer's place is not to be checked.
        generation_id: i32 = -1, 3..;
        /// The consumer's member id.
        member_id: Text, 3..;
        /// The consumer's instance id.
        group_instance_id: Option<Text>, 3..;
        /// The offsets.
        topics: Vec<TxnOffsetCommitRequestTopic>, ..;
    }

    /// Offsets of one topic.
    pub struct TxnOffsetCommitRequestTopic {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partitions: Vec<TxnOffsetCommitRequestPartition>, ..;
    }

    /// The offset of one partition.
    pub struct TxnOffsetCommitRequestPartition {
        /// Index of the partition.
        partition_index: i32, ..;
        /// The next record to read.
        committed_offset: i64, ..;
        /// Leader epoch of the last record read; -1 if unknown.
        committed_leader_epoch: i32 = -1, 2..;
        /// Text of the client's.
        committed_metadata: Option<Text> = Some(Text::default()), ..;
    }

    /// Which offsets were taken.
    pub struct TxnOffsetCommitResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// The topics.
        topics: Vec<TxnOffsetCommitResponseTopic>, ..;
    }

    /// Partitions of one topic.
    pub struct TxnOffsetCommitResponseTopic {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partitions: Vec<TxnOffsetCommitResponsePartition>, ..;
    }

    /// What became of one offset.
    pub struct TxnOffsetCommitResponsePartition {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(TxnOffsetCommit: TxnOffsetCommitRequest => TxnOffsetCommitResponse, versions 0..=5, flexible 3..);
