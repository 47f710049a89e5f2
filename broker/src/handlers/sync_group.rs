//! SyncGroup: a member asks what it consumes; the leader says what everybody does.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::group::{GroupError, Identity, Response, SyncRequest, SyncResponse};
use millstream_kafka::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers when the leader has assigned and that is on the disk.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let assignments = request
        .assignments
        .iter()
        .map(|a| (a.member_id.to_string(), Arc::from(&a.assignment[..])));
    let request = SyncRequest {
        who: Identity {
            group: request.group_id.to_string(),
            member: request.member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(ToString::to_string),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_ref().map(ToString::to_string),
        protocol: request.protocol_name.as_ref().map(ToString::to_string),
        assignments: assignments.collect(),
    };
    let names_protocol = request.protocol_type.is_some() && request.protocol.is_some();
    let synced = match version {
        // Since version 5 both have to be there (KIP-559).
        5.. if !names_protocol => Err(GroupError::InconsistentGroupProtocol),
        _ if request.who.group.is_empty() => Err(GroupError::InvalidGroupId),
        _ => sync(context, &request).await,
    };
    let synced = synced.unwrap_or_else(|error| SyncResponse {
        error: Some(error),
        ..SyncResponse::default()
    });
    SyncGroupResponse {
        error_code: synced.error.map_or(0, |error| code(error).code()),
        protocol_type: synced.protocol_type.map(Text::from),
        protocol_name: synced.protocol.map(Text::from),
        assignment: Bytes::from_owner(synced.assignment),
        ..Default::default()
    }
}

async fn sync(context: &Context, request: &SyncRequest) -> Result<SyncResponse, GroupError> {
    match context.groups.shard(&request.who.group)?.sync(request).await? {
        Response::Sync(synced) => Ok(synced),
        Response::Join(_) => Err(GroupError::CoordinatorNotAvailable),
    }
}
