//! InitProducerId: an idempotent producer gets its id, and a transactional one its transactional id (KIP-98).

use std::sync::Arc;

use millstream_core::transaction::Producer;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers with an id that no producer has had, at epoch 0; or with the producer that has the transactional id now.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    // An id and an epoch come together (KIP-360).
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return refused(ErrorCode::InvalidRequest);
    }
    if let Some(id) = request.transactional_id {
        let expected = (request.producer_id != -1).then_some(Producer {
            id: request.producer_id,
            epoch: request.producer_epoch,
        });
        let timeout_ms = request.transaction_timeout_ms;
        let given = context
            .transactions
            .init(context, &id, timeout_ms, expected)
            .await;
        return match given {
            Ok(producer) => InitProducerIdResponse {
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                ..Default::default()
            },
            // The code came with version 4.
            Err(ErrorCode::ProducerFenced) if version < 4 => refused(ErrorCode::InvalidProducerEpoch),
            Err(code) => refused(code),
        };
    }
    // Without a transaction it says nothing who the producer was.
    match context.producer_ids.next(context).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(code) => refused(code),
    }
}
