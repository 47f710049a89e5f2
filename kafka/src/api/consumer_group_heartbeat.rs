//! ConsumerGroupHeartbeat: a member of a group of the new protocol says what it has, and hears what it gets (KIP-848).

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// What a member says. What is null, or -1, is as it was at its last heartbeat.
    pub struct ConsumerGroupHeartbeatRequest {
        /// The group.
        group_id: Text, ..;
        /// The member's id, which it makes itself (KIP-1082); in version 0 empty if it has none yet.
        member_id: Text, ..;
        /// The member's epoch; 0 joins, -1 leaves, -2 leaves a place that the instance will come back to.
        member_epoch: i32, ..;
        /// The instance id.
        instance_id: Option<Text>, ..;
        /// Where the member is.
        rack_id: Option<Text>, ..;
        /// How long it may take to give up partitions.
        rebalance_timeout_ms: i32 = -1, ..;
        /// The topics that it subscribes to by name.
        subscribed_topic_names: Option<Vec<Text>>, ..;
        /// A regular expression of topics that it subscribes to.
        subscribed_topic_regex: Option<Text>, 1..;
        /// The assignor that it wants the coordinator to use.
        server_assignor: Option<Text>, ..;
        /// The partitions that it has.
        topic_partitions: Option<Vec<TopicPartitions>>, ..;
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// Id of the topic.
        topic_id: Uuid, ..;
        /// Its partitions.
        partitions: Vec<i32>, ..;
    }

    /// What a member hears.
    pub struct ConsumerGroupHeartbeatResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// The member's id.
        member_id: Option<Text>, ..;
        /// The member's epoch.
        member_epoch: i32, ..;
        /// After which time the next heartbeat is due.
        heartbeat_interval_ms: i32, ..;
        /// What the member may have now; null if that is as it was.
        assignment: Option<Assignment>, ..;
    }

    /// What a member may have.
    pub struct Assignment {
        /// The partitions.
        topic_partitions: Vec<TopicPartitions>, ..;
    }
}

request!(
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse,
    versions 0..=1, flexible 0..
);
