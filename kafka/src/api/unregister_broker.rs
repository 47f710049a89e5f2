//! UnregisterBroker: a broker that is gone for good is forgotten (KIP-500).

use crate::wire::Text;

codec! {
    /// Forgets a broker.
    pub struct UnregisterBrokerRequest {
        /// Its id.
        broker_id: i32, ..;
    }

    /// Whether it is forgotten.
    pub struct UnregisterBrokerResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
    }
}

request!(
    UnregisterBroker: UnregisterBrokerRequest => UnregisterBrokerResponse,
    versions 0..=0, flexible 0..
);
