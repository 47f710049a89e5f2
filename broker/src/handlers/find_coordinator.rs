//! FindCoordinator: which broker keeps a group or a transactional id: the one that leads its partition of
//! `__consumer_offsets` or `__transaction_state`.

use std::sync::Arc;

use millstream_core::cluster::{Broker, CONSUMER_OFFSETS, Image, TRANSACTION_STATE};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use millstream_kafka::wire::Text;

use super::leaders;
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::places::coordinator_of;

/// Answers for one key, or for several from version 4 on.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = if version >= 4 {
        request.coordinator_keys
    } else {
        vec![request.key]
    };
    let mut coordinators = Vec::with_capacity(keys.len());
    let checked = check(context, request.key_type).await;
    let image = context.controller.image();
    for key in keys {
        let found = checked.and_then(|()| find(&image, request.key_type, &key));
        coordinators.push(match found {
            Ok(broker) => Coordinator {
                key,
                node_id: broker.id.0,
                host: Text::from(broker.host.as_str()),
                port: i32::from(broker.port),
                ..Default::default()
            },
            Err((code, message)) => Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: code.code(),
                error_message: Some(Text::from(message)),
                ..Default::default()
            },
        });
    }
    if version >= 4 {
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    let only = coordinators.swap_remove(0);
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..Default::default()
    }
}

async fn check(context: &Arc<Context>, key_type: i8) -> Result<(), (ErrorCode, &'static str)> {
    match key_type {
        GROUP => {
            let started = context.groups.ensure_started(context).await;
            started.map_err(|_| {
                (
                    ErrorCode::CoordinatorNotAvailable,
                    "__consumer_offsets cannot be made",
                )
            })
        }
        TRANSACTION => {
            let started = context.transactions.ensure_started(context).await;
            started.map_err(|_| {
                (
                    ErrorCode::CoordinatorNotAvailable,
                    "__transaction_state cannot be made",
                )
            })
        }
        _ => Err((
            ErrorCode::InvalidRequest,
            "there are coordinators of groups and of transactions only",
        )),
    }
}

fn find<'a>(image: &'a Image, key_type: i8, key: &str) -> Result<&'a Broker, (ErrorCode, &'static str)> {
    let topic = match key_type {
        TRANSACTION => TRANSACTION_STATE,
        _ => CONSUMER_OFFSETS,
    };
    coordinator_of(image, topic, key)
        .and_then(|id| leaders::serving(image, id))
        .ok_or((
            ErrorCode::CoordinatorNotAvailable,
            "nobody leads the partition of the internal topic that keeps it",
        ))
}

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
