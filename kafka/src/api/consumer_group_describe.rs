//! ConsumerGroupDescribe: groups of the new protocol in detail (KIP-848, KIP-1099).

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Asks for groups.
    pub struct ConsumerGroupDescribeRequest {
        /// The groups.
        group_ids: Vec<Text>, ..;
        /// Whether to say what the client may do with them.
        include_authorized_operations: bool, ..;
    }

    /// The groups.
    pub struct ConsumerGroupDescribeResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every group that was asked for.
        groups: Vec<DescribedGroup>, ..;
    }

    /// One group.
    pub struct DescribedGroup {
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// The group.
        group_id: Text, ..;
        /// Kafka's name of its state.
        group_state: Text, ..;
        /// Grows with every change of members, subscriptions or topics.
        group_epoch: i32, ..;
        /// The epoch of the group that the target assignment is for.
        assignment_epoch: i32, ..;
        /// The assignor in use.
        assignor_name: Text, ..;
        /// The members.
        members: Vec<Member>, ..;
        /// Bits of what the client may do with the group; the least number if it did not ask.
        authorized_operations: i32 = i32::MIN, ..;
    }

    /// One member.
    pub struct Member {
        /// Its id.
        member_id: Text, ..;
        /// The instance id.
        instance_id: Option<Text>, ..;
        /// Where it is.
        rack_id: Option<Text>, ..;
        /// Its epoch.
        member_epoch: i32, ..;
        /// The client's id.
        client_id: Text, ..;
        /// The client's address.
        client_host: Text, ..;
        /// The topics that it subscribes to by name.
        subscribed_topic_names: Vec<Text>, ..;
        /// A regular expression of topics that it subscribes to.
        subscribed_topic_regex: Option<Text>, ..;
        /// What it has.
        assignment: Assignment, ..;
        /// What it is to have.
        target_assignment: Assignment, ..;
        /// 1 for the new protocol, 0 for the classic one, -1 for unknown.
        member_type: i8 = -1, 1..;
    }

    /// What a member has.
    pub struct Assignment {
        /// The partitions.
        topic_partitions: Vec<TopicPartitions>, ..;
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        /// Id of the topic.
        topic_id: Uuid, ..;
        /// Name of the topic.
        topic_name: Text, ..;
        /// Its partitions.
        partitions: Vec<i32>, ..;
    }
}

request!(
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse,
    versions 0..=1, flexible 0..
);
