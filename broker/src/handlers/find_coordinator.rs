//! FindCoordinator: which broker keeps a group. A lone broker keeps them all.

use std::sync::Arc;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;

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
    let refused = check(context, request.key_type).await.err();
    for key in keys {
        coordinators.push(match &refused {
            None => this_broker(context, key),
            Some((code, message)) => Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: code.code(),
                error_message: Some(Text::from(*message)),
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
        TRANSACTION => Err((
            ErrorCode::TransactionalIdAuthorizationFailed,
            "transactions are not built yet",
        )),
        _ => Err((ErrorCode::InvalidRequest, "there are coordinators of groups only")),
    }
}

fn this_broker(context: &Context, key: Text) -> Coordinator {
    let (host, port) = context.advertised();
    Coordinator {
        key,
        node_id: context.settings.node_id,
        host: Text::from(host.as_str()),
        port: i32::from(port),
        ..Default::default()
    }
}

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
