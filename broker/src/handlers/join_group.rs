//! JoinGroup: a client becomes a member of a group, or asks to stay one.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::group::{GroupError, JoinRequest, JoinResponse, Response};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers when the rebalance that the member takes part in is done.
pub async fn handle(
    context: &Arc<Context>,
    info: &ConnectionInfo,
    version: i16,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    let request = translate(info, version, request);
    match join(context, request).await {
        Ok(joined) => answer(version, joined),
        Err(error) => refused(version, member_id, code(error)),
    }
}

async fn join(context: &Context, request: JoinRequest) -> Result<JoinResponse, GroupError> {
    match context.groups.shard(&request.group)?.join(request).await? {
        Response::Join(joined) => Ok(joined),
        Response::Sync(_) => Err(GroupError::CoordinatorNotAvailable),
    }
}

fn translate(info: &ConnectionInfo, version: i16, request: JoinGroupRequest) -> JoinRequest {
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        timeout_ms if version >= 1 && timeout_ms > 0 => timeout_ms,
        _ => request.session_timeout_ms,
    };
    let protocols = request
        .protocols
        .iter()
        .map(|p| (p.name.to_string(), Arc::from(&p.metadata[..])));
    JoinRequest {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|id| id.to_string()),
        client_id: info.client_id.to_string(),
        client_host: format!("/{}", info.peer.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        knows_required_ids: version >= 4,
        can_skip_assignment: version >= 9,
        unique: Uuid::new_v4().to_string(),
    }
}

fn answer(version: i16, joined: JoinResponse) -> JoinGroupResponse {
    let member = |member: millstream_core::group::JoinedMember| JoinGroupResponseMember {
        member_id: Text::from(member.member_id),
        group_instance_id: member.instance.map(Text::from),
        metadata: Bytes::from_owner(member.metadata),
        ..Default::default()
    };
    JoinGroupResponse {
        error_code: joined.error.map_or(0, |error| code(error).code()),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(Text::from),
        protocol_name: protocol_name(version, joined.protocol),
        leader: Text::from(joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: Text::from(joined.member_id),
        members: joined.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn refused(version: i16, member_id: Text, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code.code(),
        generation_id: -1,
        protocol_name: protocol_name(version, None),
        member_id,
        ..Default::default()
    }
}

/// Before version 7 the name cannot be null.
fn protocol_name(version: i16, name: Option<String>) -> Option<Text> {
    name.or_else(|| (version < 7).then(String::new)).map(Text::from)
}
