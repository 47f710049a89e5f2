//! EndTxn: a producer commits or aborts its transaction (KIP-98), and gets the epoch of the next one (KIP-890).

use std::sync::Arc;

use millstream_core::transaction::{EndRequest, Producer, Version};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::end_txn::{EndTxnRequest, EndTxnResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers once the outcome is certain.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: EndTxnRequest,
) -> EndTxnResponse {
    let how = match version {
        ..=4 => Version::V1,
        _ => Version::V2,
    };
    let end = EndRequest {
        producer: Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        },
        is_commit: request.committed,
        version: how,
        fresh: None,
    };
    match context
        .transactions
        .end(context, &request.transactional_id, end)
        .await
    {
        Ok(producer) => EndTxnResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            ..Default::default()
        },
        Err(code) => EndTxnResponse {
            error_code: match code {
                // The code came with version 2.
                ErrorCode::ProducerFenced if version < 2 => ErrorCode::InvalidProducerEpoch.code(),
                code => code.code(),
            },
            ..Default::default()
        },
    }
}
