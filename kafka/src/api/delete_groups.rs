//! DeleteGroups: groups without members go, with their offsets (KIP-229).

use crate::wire::Text;

codec! {
    /// Deletes groups.
    pub struct DeleteGroupsRequest {
        /// The groups.
        groups_names: Vec<Text>, ..;
    }

    /// Which groups are gone.
    pub struct DeleteGroupsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every group that was asked for.
        results: Vec<DeletableGroupResult>, ..;
    }

    /// What became of one group.
    pub struct DeletableGroupResult {
        /// The group.
        group_id: Text, ..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse, versions 0..=2, flexible 2..);
