//! JoinGroup: a client becomes a member of a group, and the leader learns who the others are.

use bytes::Bytes;

use crate::wire::Text;

codec! {
    /// Asks to become a member, or to stay one through a rebalance.
    pub struct JoinGroupRequest {
        /// The group.
        group_id: Text, ..;
        /// Without a heartbeat for this long the member is taken for dead.
        session_timeout_ms: i32, ..;
        /// How long the members have to join again when the group rebalances.
        rebalance_timeout_ms: i32 = -1, 1..;
        /// Id that the coordinator gave; empty for one who has none yet.
        member_id: Text, ..;
        /// Name of a static member (KIP-345).
        group_instance_id: Option<Text>, 5..;
        /// What the members are to each other: `consumer`, `connect`.
        protocol_type: Text, ..;
        /// Protocols that the client can follow, the ones it likes most first.
        protocols: Vec<JoinGroupRequestProtocol>, ..;
        /// Why it joins, for the coordinator's log (KIP-800).
        reason: Option<Text>, 8..;
    }

    /// A protocol that a client can follow.
    pub struct JoinGroupRequestProtocol {
        /// Its name, such as `range`.
        name: Text, ..;
        /// What the leader has to know of the member; the coordinator does not look inside.
        metadata: Bytes, ..;
    }

    /// A new generation of the group.
    pub struct JoinGroupResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, 2..;
        /// Error, or 0.
        error_code: i16, ..;
        /// Number of the generation.
        generation_id: i32 = -1, ..;
        /// What the members are to each other.
        protocol_type: Option<Text>, 7..;
        /// The protocol that all can follow. Before version 7 it cannot be null.
        protocol_name: Option<Text> = Some(Text::default()), .., null 7..;
        /// Member id of the leader.
        leader: Text, ..;
        /// Tells a returning static leader to assign nothing (KIP-814).
        skip_assignment: bool, 9..;
        /// The member's id.
        member_id: Text, ..;
        /// The members, for the leader alone.
        members: Vec<JoinGroupResponseMember>, ..;
    }

    /// A member, as the leader sees it.
    pub struct JoinGroupResponseMember {
        /// Its id.
        member_id: Text, ..;
        /// Its name, if it is a static member.
        group_instance_id: Option<Text>, 5..;
        /// What it said about itself for the protocol that was chosen.
        metadata: Bytes, ..;
    }
}

request!(JoinGroup: JoinGroupRequest => JoinGroupResponse, versions 0..=9, flexible 6..);
