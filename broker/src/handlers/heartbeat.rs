//! Heartbeat: a member says that it lives, and hears whether it has to join again.

use std::sync::Arc;

use millstream_core::group::{GroupError, Identity, Step};
use millstream_kafka::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers whether the member is still in the group.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let who = Identity {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|id| id.to_string()),
        generation: request.generation_id,
    };
    let error_code = heartbeat(context, &who)
        .await
        .err()
        .map_or(0, |error| code(error).code());
    HeartbeatResponse {
        error_code,
        ..Default::default()
    }
}

async fn heartbeat(context: &Context, who: &Identity) -> Result<(), GroupError> {
    if who.group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    let shard = context.groups.shard(&who.group)?;
    shard
        .call(|groups, now_ms| (groups.heartbeat(now_ms, who), Step::default()))
        .await?
}
