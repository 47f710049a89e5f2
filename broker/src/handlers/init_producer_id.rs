//! InitProducerId: an idempotent producer gets its id (KIP-98). Transactions are refused while they are not built.

use std::sync::Arc;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers with an id that no producer has had, at epoch 0.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    match request.transactional_id {
        // Clients take this code as final and say so, where others make them try for minutes.
        Some(id) if !id.is_empty() => return refused(ErrorCode::TransactionalIdAuthorizationFailed),
        Some(_) => return refused(ErrorCode::InvalidRequest),
        // An id and an epoch come together (KIP-360). What they are says nothing without a transaction.
        None if (request.producer_id == -1) != (request.producer_epoch == -1) => {
            return refused(ErrorCode::InvalidRequest);
        }
        None => {}
    }
    match context.producer_ids.next(context).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(code) => refused(code),
    }
}
