//! DescribeTopicPartitions: topics and their partitions, a page at a time (KIP-966).

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Asks for a page.
    pub struct DescribeTopicPartitionsRequest {
        /// The topics; none for all of them.
        topics: Vec<TopicRequest>, ..;
        /// Most partitions on the page.
        response_partition_limit: i32 = 2000, ..;
        /// Where the page begins; null for the first.
        cursor: Option<Cursor>, ..;
    }

    /// A topic that is asked for.
    pub struct TopicRequest {
        /// Its name.
        name: Text, ..;
    }

    /// Where a page begins.
    pub struct Cursor {
        /// At this topic.
        topic_name: Text, ..;
        /// At this partition.
        partition_index: i32, ..;
    }

    /// A page.
    pub struct DescribeTopicPartitionsResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, ..;
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic>, ..;
        /// Where the next page begins; null behind the last.
        next_cursor: Option<Cursor>, ..;
    }

    /// A topic.
    pub struct DescribeTopicPartitionsResponseTopic {
        /// Error code.
        error_code: i16, ..;
        /// Its name.
        name: Option<Text>, ..;
        /// Its id.
        topic_id: Uuid, ..;
        /// Whether it belongs to the brokers.
        is_internal: bool, ..;
        /// Its partitions.
        partitions: Vec<DescribeTopicPartitionsResponsePartition>, ..;
        /// What the client may do to the topic, as bits.
        topic_authorized_operations: i32 = i32::MIN, ..;
    }

    /// A partition.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// Error code.
        error_code: i16, ..;
        /// Its index.
        partition_index: i32, ..;
        /// Broker that leads it; -1 if none does.
        leader_id: i32, ..;
        /// Epoch of the leader.
        leader_epoch: i32 = -1, ..;
        /// Brokers that store it.
        replica_nodes: Vec<i32>, ..;
        /// Those of them that are in sync.
        isr_nodes: Vec<i32>, ..;
        /// Those that may become leader besides.
        eligible_leader_replicas: Option<Vec<i32>>, ..;
        /// Those that might have become leader last.
        last_known_elr: Option<Vec<i32>>, ..;
        /// Those that are offline.
        offline_replicas: Vec<i32>, ..;
    }
}

request!(
    DescribeTopicPartitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse,
    versions 0..=0, flexible 0..
);
