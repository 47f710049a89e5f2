//! FindCoordinator: which broker keeps a group or a transaction; several at a time from version 4 on (KIP-699).

use crate::wire::Text;

codec! {
    /// Asks for coordinators.
    pub struct FindCoordinatorRequest {
        /// Id of the group or the transaction.
        key: Text, ..=3;
        /// 0 for groups, 1 for transactions, 2 for share groups.
        key_type: i8, 1..;
        /// Ids of the groups or transactions.
        coordinator_keys: Vec<Text>, 4..;
    }

    /// The coordinators.
    pub struct FindCoordinatorResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, 1..;
        /// Error code.
        error_code: i16, ..=3;
        /// What is wrong.
        error_message: Option<Text>, 1..=3;
        /// Broker that coordinates.
        node_id: i32, ..=3;
        /// Its host name.
        host: Text, ..=3;
        /// Its port.
        port: i32, ..=3;
        /// The answer for every key.
        coordinators: Vec<Coordinator>, 4..;
    }

    /// Coordinator of one key.
    pub struct Coordinator {
        /// The key.
        key: Text, 4..;
        /// Broker that coordinates.
        node_id: i32, 4..;
        /// Its host name.
        host: Text, 4..;
        /// Its port.
        port: i32, 4..;
        /// Error code.
        error_code: i16, 4..;
        /// What is wrong.
        error_message: Option<Text>, 4..;
    }
}

request!(
    FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
    versions 0..=6, flexible 3..
);
