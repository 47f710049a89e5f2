//! ListGroups: the groups that a broker coordinates.

use crate::wire::Text;

codec! {
    /// Asks for groups.
    pub struct ListGroupsRequest {
        /// States that are wanted; empty means all (KIP-518).
        states_filter: Vec<Text>, 4..;
        /// Types that are wanted; empty means all (KIP-848).
        types_filter: Vec<Text>, 5..;
    }

    /// The groups.
    pub struct ListGroupsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, 1..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The groups.
        groups: Vec<ListedGroup>, ..;
    }

    /// A group.
    pub struct ListedGroup {
        /// Its name.
        group_id: Text, ..;
        /// What its members are to each other.
        protocol_type: Text, ..;
        /// Kafka's name of its state.
        group_state: Text, 4..;
        /// `classic` or `consumer`.
        group_type: Text, 5..;
    }
}

request!(ListGroups: ListGroupsRequest => ListGroupsResponse, versions 0..=5, flexible 3..);
