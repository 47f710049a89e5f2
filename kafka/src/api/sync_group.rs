//! SyncGroup: the leader hands in who gets what, and every member learns its share.

use bytes::Bytes;

use crate::wire::Text;

codec! {
    /// Asks for the member's share; the leader brings those of all.
    pub struct SyncGroupRequest {
        /// The group.
        group_id: Text, ..;
        /// Its generation.
        generation_id: i32, ..;
        /// The member.
        member_id: Text, ..;
        /// Name of a static member (KIP-345).
        group_instance_id: Option<Text>, 3..;
        /// What the member takes the group's type to be (KIP-559).
        protocol_type: Option<Text>, 5..;
        /// What the member takes the group's protocol to be (KIP-559).
        protocol_name: Option<Text>, 5..;
        /// Everyone's share, from the leader alone.
        assignments: Vec<SyncGroupRequestAssignment>, ..;
    }

    /// One member's share.
    pub struct SyncGroupRequestAssignment {
        /// The member.
        member_id: Text, ..;
        /// Its share; the coordinator does not look inside.
        assignment: Bytes, ..;
    }

    /// The member's share.
    pub struct SyncGroupResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, 1..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The group's type.
        protocol_type: Option<Text>, 5..;
        /// The group's protocol.
        protocol_name: Option<Text>, 5..;
        /// The share.
        assignment: Bytes, ..;
    }
}

request!(SyncGroup: SyncGroupRequest => SyncGroupResponse, versions 0..=5, flexible 4..);
