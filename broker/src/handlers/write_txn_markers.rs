//! WriteTxnMarkers: ends transactions in the partitions that this broker leads (KIP-98). Coordinators send it, and
//! administrators that end what hangs (KIP-664).

use std::sync::Arc;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::write_txn_markers::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use millstream_storage::EndMarker;
use tokio::task::JoinSet;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::markers;

/// Answers for every partition, once its marker is safe.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    answer(context, request).await
}

/// Answers for every partition, whoever asks. All are written before any is waited for.
pub async fn answer(context: &Arc<Context>, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut writing = JoinSet::new();
    let mut answer = WriteTxnMarkersResponse::default();
    for marker in request.markers {
        let end = EndMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            is_commit: marker.transaction_result,
            coordinator_epoch: marker.coordinator_epoch,
            bumps_epoch: marker.transaction_version >= EPOCH_BUMP_VERSION,
        };
        let mut result = WritableTxnMarkerResult {
            producer_id: marker.producer_id,
            ..Default::default()
        };
        for topic in marker.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let place = (answer.markers.len(), result.topics.len(), partitions.len());
                let (context, name) = (context.clone(), topic.name.clone());
                writing.spawn(async move { (place, markers::write(&context, &name, index, end).await) });
                partitions.push(WritableTxnMarkerPartitionResult {
                    partition_index: index,
                    error_code: ErrorCode::UnknownServerError.code(),
                    ..Default::default()
                });
            }
            result.topics.push(WritableTxnMarkerTopicResult {
                name: topic.name,
                partitions,
                ..Default::default()
            });
        }
        answer.markers.push(result);
    }
    while let Some(written) = writing.join_next().await {
        match written {
            Ok(((marker, topic, partition), written)) => {
                let code = written.err().unwrap_or(ErrorCode::None).code();
                answer.markers[marker].topics[topic].partitions[partition].error_code = code;
            }
            Err(error) => tracing::error!(%error, "a marker cannot be written"),
        }
    }
    answer
}

/// Version of transactions from which on each has an epoch of its own (KIP-890).
const EPOCH_BUMP_VERSION: i8 = 2;
