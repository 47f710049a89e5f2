//! DescribeGroups: the state of groups and who is in them.

use bytes::Bytes;

use crate::wire::Text;

codec! {
    /// Asks for groups by name.
    pub struct DescribeGroupsRequest {
        /// The groups.
        groups: Vec<Text>, ..;
        /// Whether to say what the client may do with them.
        include_authorized_operations: bool, 3..;
    }

    /// The groups.
    pub struct DescribeGroupsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, 1..;
        /// One answer for every group that was asked for.
        groups: Vec<DescribedGroup>, ..;
    }

    /// A group.
    pub struct DescribedGroup {
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words (KIP-1043).
        error_message: Option<Text>, 6..;
        /// The group.
        group_id: Text, ..;
        /// Kafka's name of its state.
        group_state: Text, ..;
        /// What the members are to each other.
        protocol_type: Text, ..;
        /// The protocol that they follow.
        protocol_data: Text, ..;
        /// The members.
        members: Vec<DescribedGroupMember>, ..;
        /// Bits of what the client may do; the lowest number if it did not ask.
        authorized_operations: i32 = i32::MIN, 3..;
    }

    /// A member of a group.
    pub struct DescribedGroupMember {
        /// Id that the coordinator gave.
        member_id: Text, ..;
        /// Name of a static member (KIP-345).
        group_instance_id: Option<Text>, 4..;
        /// Name that the client gave itself.
        client_id: Text, ..;
        /// Where it connected from.
        client_host: Text, ..;
        /// What it said about itself for the protocol that the group follows.
        member_metadata: Bytes, ..;
        /// Its share.
        member_assignment: Bytes, ..;
    }
}

request!(DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse, versions 0..=6, flexible 5..);
