//! AddPartitionsToTxn: partitions join a transaction, or a leader asks whether they are in it (KIP-98, KIP-890).

use crate::wire::Text;

codec! {
    /// Adds partitions: to one transaction, as producers do, or from version 4 on to many, as brokers do.
    pub struct AddPartitionsToTxnRequest {
        /// The transactions.
        transactions: Vec<AddPartitionsToTxnTransaction>, 4..;
        /// Id of the producer's transactions.
        v3_and_below_transactional_id: Text, ..=3;
        /// The producer's id.
        v3_and_below_producer_id: i64, ..=3;
        /// The producer's epoch.
        v3_and_below_producer_epoch: i16, ..=3;
        /// The partitions.
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic>, ..=3;
    }

    /// Partitions of one transaction.
    pub struct AddPartitionsToTxnTransaction {
        /// Id of the producer's transactions.
        transactional_id: Text, 4..;
        /// The producer's id.
        producer_id: i64, 4..;
        /// The producer's epoch.
        producer_epoch: i16, 4..;
        /// Whether it is only asked if they are in the transaction.
        verify_only: bool, 4..;
        /// The partitions.
        topics: Vec<AddPartitionsToTxnTopic>, 4..;
    }

    /// Partitions of one topic.
    pub struct AddPartitionsToTxnTopic {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partitions: Vec<i32>, ..;
    }

    /// What became of them.
    pub struct AddPartitionsToTxnResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error of the request as a whole, or 0.
        error_code: i16, 4..;
        /// The transactions.
        results_by_transaction: Vec<AddPartitionsToTxnResult>, 4..;
        /// The partitions of the one transaction.
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>, ..=3;
    }

    /// What became of the partitions of one transaction.
    pub struct AddPartitionsToTxnResult {
        /// Id of the producer's transactions.
        transactional_id: Text, 4..;
        /// The partitions.
        topic_results: Vec<AddPartitionsToTxnTopicResult>, 4..;
    }

    /// What became of the partitions of one topic.
    pub struct AddPartitionsToTxnTopicResult {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>, ..;
    }

    /// What became of one partition.
    pub struct AddPartitionsToTxnPartitionResult {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Error, or 0.
        partition_error_code: i16, ..;
    }
}

request!(
    AddPartitionsToTxn: AddPartitionsToTxnRequest => AddPartitionsToTxnResponse,
    versions 0..=5, flexible 3..
);
