//! InitProducerId: the identity of an idempotent or transactional producer (KIP-98, KIP-360).

use crate::wire::Text;

codec! {
    /// Asks for an identity.
    pub struct InitProducerIdRequest {
        /// Id of the producer's transactions, if it has them.
        transactional_id: Option<Text>, ..;
        /// After how long the broker aborts a transaction.
        transaction_timeout_ms: i32, ..;
        /// Identity that the producer has; -1 for none.
        producer_id: i64 = -1, 3..;
        /// Epoch that the producer has; -1 for none.
        producer_epoch: i16 = -1, 3..;
    }

    /// An identity.
    pub struct InitProducerIdResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, ..;
        /// Error code.
        error_code: i16, ..;
        /// The producer's id.
        producer_id: i64 = -1, ..;
        /// Its epoch.
        producer_epoch: i16, ..;
    }
}

request!(InitProducerId: InitProducerIdRequest => InitProducerIdResponse, versions 0..=5, flexible 2..);
