//! WriteTxnMarkers: a coordinator, or an administrator, ends transactions in partitions (KIP-98, KIP-664, KIP-1228).

use crate::wire::Text;

codec! {
    /// Writes markers.
    pub struct WriteTxnMarkersRequest {
        /// The markers.
        markers: Vec<WritableTxnMarker>, ..;
    }

    /// The end of one transaction.
    pub struct WritableTxnMarker {
        /// The producer's id.
        producer_id: i64, ..;
        /// The producer's epoch.
        producer_epoch: i16, ..;
        /// Whether it commits.
        transaction_result: bool, ..;
        /// Where to write it.
        topics: Vec<WritableTxnMarkerTopic>, ..;
        /// Epoch of the coordinator, which is that of the leader of its partition of `__transaction_state`.
        coordinator_epoch: i32, ..;
        /// Version of transactions: from 2 on each has an epoch of its own.
        transaction_version: i8, 2..;
    }

    /// Partitions of one topic.
    pub struct WritableTxnMarkerTopic {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partition_indexes: Vec<i32>, ..;
    }

    /// Which markers were written.
    pub struct WriteTxnMarkersResponse {
        /// The markers.
        markers: Vec<WritableTxnMarkerResult>, ..;
    }

    /// What became of one marker.
    pub struct WritableTxnMarkerResult {
        /// The producer's id.
        producer_id: i64, ..;
        /// Where it was to be written.
        topics: Vec<WritableTxnMarkerTopicResult>, ..;
    }

    /// Partitions of one topic.
    pub struct WritableTxnMarkerTopicResult {
        /// Name of the topic.
        name: Text, ..;
        /// Its partitions.
        partitions: Vec<WritableTxnMarkerPartitionResult>, ..;
    }

    /// What became of a marker in one partition.
    pub struct WritableTxnMarkerPartitionResult {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(WriteTxnMarkers: WriteTxnMarkersRequest => WriteTxnMarkersResponse, versions 1..=2, flexible 1..);
