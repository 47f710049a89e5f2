//! Heartbeat: a member is alive, and learns of rebalances.

use crate::wire::Text;

codec! {
    /// A sign of life.
    pub struct HeartbeatRequest {
        /// The group.
        group_id: Text, ..;
        /// The generation that the member knows.
        generation_id: i32, ..;
        /// The member.
        member_id: Text, ..;
        /// Name of a static member (KIP-345).
        group_instance_id: Option<Text>, 3..;
    }

    /// Whether the member still belongs to the group.
    pub struct HeartbeatResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, 1..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(Heartbeat: HeartbeatRequest => HeartbeatResponse, versions 0..=4, flexible 4..);
