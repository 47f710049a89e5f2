//! AddOffsetsToTxn: a transaction commits offsets of a group (KIP-98).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::CONSUMER_OFFSETS;
use millstream_core::transaction::{Producer, Version};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group;

/// Adds the partition that keeps the group.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let code = match add(context, &request).await {
        Ok(()) => ErrorCode::None,
        // The code came with version 2.
        Err(ErrorCode::ProducerFenced) if version < 2 => ErrorCode::InvalidProducerEpoch,
        Err(code) => code,
    };
    AddOffsetsToTxnResponse {
        error_code: code.code(),
        ..Default::default()
    }
}

async fn add(context: &Arc<Context>, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    context.groups.ensure_started(context).await?;
    let partition = group::partition_of(context, &request.group_id)?;
    let touched = BTreeMap::from([(Arc::from(CONSUMER_OFFSETS), vec![partition])]);
    let producer = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let id = &request.transactional_id;
    context
        .transactions
        .add(context, id, producer, &touched, Version::V1)
        .await
}
