//! DescribeTransactions: transactional ids in detail (KIP-664).

use crate::wire::Text;

codec! {
    /// Asks for transactional ids.
    pub struct DescribeTransactionsRequest {
        /// The ids.
        transactional_ids: Vec<Text>, ..;
    }

    /// What their coordinator knows.
    pub struct DescribeTransactionsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every id that was asked for.
        transaction_states: Vec<TransactionState>, ..;
    }

    /// One transactional id.
    pub struct TransactionState {
        /// Error, or 0.
        error_code: i16, ..;
        /// The id.
        transactional_id: Text, ..;
        /// Kafka's name of the state that its transaction is in.
        transaction_state: Text, ..;
        /// After how long the broker aborts a transaction.
        transaction_timeout_ms: i32, ..;
        /// When the transaction began, in milliseconds since 1970; -1 if there is none.
        transaction_start_time_ms: i64, ..;
        /// The producer's id.
        producer_id: i64, ..;
        /// The producer's epoch.
        producer_epoch: i16, ..;
        /// The partitions of the transaction; those that lack its marker if it is ending.
        topics: Vec<TopicData>, ..;
    }

    /// Partitions of one topic.
    pub struct TopicData {
        /// Name of the topic.
        topic: Text, ..;
        /// Its partitions.
        partitions: Vec<i32>, ..;
    }
}

request!(
    DescribeTransactions: DescribeTransactionsRequest => DescribeTransactionsResponse,
    versions 0..=0, flexible 0..
);
