//! EndTxn: a transaction is committed or aborted (KIP-98, KIP-890).

use crate::wire::Text;

codec! {
    /// Ends a transaction.
    pub struct EndTxnRequest {
        /// Id of the producer's transactions.
        transactional_id: Text, ..;
        /// The producer's id.
        producer_id: i64, ..;
        /// The producer's epoch.
        producer_epoch: i16, ..;
        /// Whether what it wrote is to be seen.
        committed: bool, ..;
    }

    /// Whether it ended.
    pub struct EndTxnResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The id that the producer goes on with; -1 after an error.
        producer_id: i64 = -1, 5..;
        /// The epoch that it goes on with; -1 after an error.
        producer_epoch: i16 = -1, 5..;
    }
}

request!(EndTxn: EndTxnRequest => EndTxnResponse, versions 0..=5, flexible 3..);
