//! AddOffsetsToTxn: the offsets of a group join a transaction (KIP-98).

use crate::wire::Text;

codec! {
    /// Adds the partition of `__consumer_offsets` that the group has.
    pub struct AddOffsetsToTxnRequest {
        /// Id of the producer's transactions.
        transactional_id: Text, ..;
        /// The producer's id.
        producer_id: i64, ..;
        /// The producer's epoch.
        producer_epoch: i16, ..;
        /// The group.
        group_id: Text, ..;
    }

    /// Whether it was added.
    pub struct AddOffsetsToTxnResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
    }
}

request!(AddOffsetsToTxn: AddOffsetsToTxnRequest => AddOffsetsToTxnResponse, versions 0..=4, flexible 3..);
