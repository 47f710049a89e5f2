//! ListTransactions: the transactional ids that a broker coordinates (KIP-664, KIP-994, KIP-1152).

use crate::wire::Text;

codec! {
    /// Asks for transactional ids.
    pub struct ListTransactionsRequest {
        /// The states that they may be in; empty for all.
        state_filters: Vec<Text>, ..;
        /// The producer ids that they may have; empty for all.
        producer_id_filters: Vec<i64>, ..;
        /// How long their transactions must have been open, in milliseconds; negative for all.
        duration_filter: i64 = -1, 1..;
        /// A regular expression that they match; null or empty for all.
        transactional_id_pattern: Option<Text>, 2..;
    }

    /// The transactional ids.
    pub struct ListTransactionsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The states of the request that are none.
        unknown_state_filters: Vec<Text>, ..;
        /// The ids.
        transaction_states: Vec<TransactionState>, ..;
    }

    /// One transactional id.
    pub struct TransactionState {
        /// The id.
        transactional_id: Text, ..;
        /// The producer's id.
        producer_id: i64, ..;
        /// Kafka's name of the state that its transaction is in.
        transaction_state: Text, ..;
    }
}

request!(ListTransactions: ListTransactionsRequest => ListTransactionsResponse, versions 0..=2, flexible 0..);
