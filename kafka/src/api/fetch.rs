//! Fetch: records out, with sessions that remember the partitions (KIP-227).

use uuid::Uuid;

use crate::wire::{Payload, Text};

codec! {
    /// Asks for record batches.
    pub struct FetchRequest {
        /// Id of the cluster, if the asker checks it.
        cluster_id: Option<Text>, 12.., tag 0;
        /// Broker that asks; -1 for a consumer.
        replica_id: i32 = -1, ..=14;
        /// Broker that asks.
        replica_state: ReplicaState, 15.., tag 1;
        /// How long the broker may wait for records.
        max_wait_ms: i32, ..;
        /// How many bytes are worth an answer before that.
        min_bytes: i32, ..;
        /// Most bytes of the answer; one batch may be larger.
        max_bytes: i32 = i32::MAX, ..;
        /// 0 to read everything, 1 to read what is committed.
        isolation_level: i8, ..;
        /// The session; 0 for none or a new one.
        session_id: i32, 7..;
        /// Number of the request in the session; 0 begins one, -1 ends it.
        session_epoch: i32 = -1, 7..;
        /// Partitions to fetch; in a session those that changed.
        topics: Vec<FetchTopic>, ..;
        /// Partitions that the session may forget.
        forgotten_topics_data: Vec<ForgottenTopic>, 7..;
        /// Rack of the consumer.
        rack_id: Text, 11..;
    }

    /// A broker that follows.
    pub struct ReplicaState {
        /// Its id; -1 for a consumer.
        replica_id: i32 = -1, 15..;
        /// Its epoch.
        replica_epoch: i64 = -1, 15..;
    }

    /// Partitions of a topic to fetch.
    pub struct FetchTopic {
        /// Its name.
        topic: Text, ..=12;
        /// Its id.
        topic_id: Uuid, 13..;
        /// The partitions.
        partitions: Vec<FetchPartition>, ..;
    }

    /// A partition to fetch.
    pub struct FetchPartition {
        /// Its index.
        partition: i32, ..;
        /// Epoch of the leader that the asker knows; -1 for none.
        current_leader_epoch: i32 = -1, 9..;
        /// Where to begin.
        fetch_offset: i64, ..;
        /// Epoch of the last record that the asker has; -1 for none.
        last_fetched_epoch: i32 = -1, 12..;
        /// Where the follower's log begins; -1 for a consumer.
        log_start_offset: i64 = -1, 5..;
        /// Most bytes for the partition; one batch may be larger.
        partition_max_bytes: i32, ..;
        /// Folder of the follower.
        replica_directory_id: Uuid, 17.., tag 0;
        /// High watermark of the follower.
        high_watermark: i64 = i64::MAX, 18.., tag 1;
    }

    /// Partitions that the session may forget.
    pub struct ForgottenTopic {
        /// Name of their topic.
        topic: Text, 7..=12;
        /// Its id.
        topic_id: Uuid, 13..;
        /// Their indexes.
        partitions: Vec<i32>, 7..;
    }

    /// Record batches.
    pub struct FetchResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, ..;
        /// Error code of the whole response.
        error_code: i16, 7..;
        /// The session; 0 for none.
        session_id: i32, 7..;
        /// The topics.
        responses: Vec<FetchableTopicResponse>, ..;
        /// Where the leaders are that the partitions name (KIP-951).
        node_endpoints: Vec<NodeEndpoint>, 16.., tag 0;
    }

    /// Record batches of a topic.
    pub struct FetchableTopicResponse {
        /// Its name.
        topic: Text, ..=12;
        /// Its id.
        topic_id: Uuid, 13..;
        /// The partitions.
        partitions: Vec<PartitionData>, ..;
    }

    /// Record batches of a partition.
    pub struct PartitionData {
        /// Its index.
        partition_index: i32, ..;
        /// Error code.
        error_code: i16, ..;
        /// Up to here records are replicated.
        high_watermark: i64, ..;
        /// Up to here transactions are decided.
        last_stable_offset: i64 = -1, ..;
        /// Where the log begins.
        log_start_offset: i64 = -1, 5..;
        /// Where the log of the asker leaves the leader's (KIP-595).
        diverging_epoch: EpochEndOffset, 12.., tag 0;
        /// Who leads the partition, if not this broker.
        current_leader: LeaderIdAndEpoch, 12.., tag 1;
        /// The snapshot to fetch instead.
        snapshot_id: SnapshotId, 12.., tag 2;
        /// Transactions among the records that were aborted.
        aborted_transactions: Option<Vec<AbortedTransaction>>, ..;
        /// Broker that the consumer should fetch from; -1 for the leader.
        preferred_read_replica: i32 = -1, 11..;
        /// The batches; the first may begin before the offset, the last may be cut short.
        records: Option<Payload>, ..;
    }

    /// Where an epoch ends.
    pub struct EpochEndOffset {
        /// The epoch.
        epoch: i32 = -1, 12..;
        /// Offset behind its last record.
        end_offset: i64 = -1, 12..;
    }

    /// A leader.
    pub struct LeaderIdAndEpoch {
        /// Its broker; -1 if there is none.
        leader_id: i32 = -1, 12..;
        /// Its epoch.
        leader_epoch: i32 = -1, 12..;
    }

    /// A snapshot.
    pub struct SnapshotId {
        /// Offset behind its last record.
        end_offset: i64 = -1, ..;
        /// Its epoch.
        epoch: i32 = -1, ..;
    }

    /// A transaction that was aborted.
    pub struct AbortedTransaction {
        /// Its producer.
        producer_id: i64, ..;
        /// Where it begins.
        first_offset: i64, ..;
    }

    /// Where a broker is.
    pub struct NodeEndpoint {
        /// Its id.
        node_id: i32, 16..;
        /// Its host name.
        host: Text, 16..;
        /// Its port.
        port: i32, 16..;
        /// Its rack, if it has one.
        rack: Option<Text>, 16..;
    }
}

request!(Fetch: FetchRequest => FetchResponse, versions 4..=18, flexible 12..);
