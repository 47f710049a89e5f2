//! LeaveGroup: members go, of their own will or removed by an administrator (KIP-345).

use crate::wire::Text;

codec! {
    /// Takes members out of a group.
    pub struct LeaveGroupRequest {
        /// The group.
        group_id: Text, ..;
        /// The member that leaves.
        member_id: Text, ..=2;
        /// The members that leave.
        members: Vec<MemberIdentity>, 3..;
    }

    /// A member that leaves.
    pub struct MemberIdentity {
        /// Its id; empty if it is named by its instance id.
        member_id: Text, 3..;
        /// Name of a static member.
        group_instance_id: Option<Text>, 3..;
        /// Why it leaves, for the coordinator's log (KIP-800).
        reason: Option<Text>, 5..;
    }

    /// Who left.
    pub struct LeaveGroupResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, 1..;
        /// Error of the request as a whole, or 0. Before version 3 that of the one member.
        error_code: i16, ..;
        /// The members that were to leave.
        members: Vec<MemberResponse>, 3..;
    }

    /// What became of one of them.
    pub struct MemberResponse {
        /// Its id.
        member_id: Text, 3..;
        /// Its name, if it is a static member.
        group_instance_id: Option<Text>, 3..;
        /// Error, or 0.
        error_code: i16, 3..;
    }
}

request!(LeaveGroup: LeaveGroupRequest => LeaveGroupResponse, versions 0..=5, flexible 4..);
