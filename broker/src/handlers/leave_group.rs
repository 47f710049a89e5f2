//! LeaveGroup: members go, one by itself or several by an administrator's wish (KIP-345).

use std::sync::Arc;

use millstream_core::group::{GroupError, LeaveMember};
use millstream_kafka::api::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers for every member; before version 3 there is one, and its error is the answer's.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let leaving: Vec<LeaveMember> = if version >= 3 {
        let members = request.members.iter();
        let leave = |m: &millstream_kafka::api::leave_group::MemberIdentity| LeaveMember {
            member: m.member_id.to_string(),
            instance: m.group_instance_id.as_ref().map(ToString::to_string),
        };
        members.map(leave).collect()
    } else {
        vec![LeaveMember {
            member: request.member_id.to_string(),
            instance: None,
        }]
    };
    let answers = match leave(context, &request.group_id, &leaving).await {
        Ok(answers) => answers,
        Err(error) => {
            return LeaveGroupResponse {
                error_code: code(error).code(),
                ..Default::default()
            };
        }
    };
    let error_of = |answer: &Result<(), GroupError>| answer.err().map_or(0, |error| code(error).code());
    if version < 3 {
        let error_code = answers.first().map_or(0, error_of);
        return LeaveGroupResponse {
            error_code,
            ..Default::default()
        };
    }
    let member = |(asked, answer)| {
        let millstream_kafka::api::leave_group::MemberIdentity {
            member_id,
            group_instance_id,
            ..
        } = asked;
        MemberResponse {
            member_id,
            group_instance_id,
            error_code: error_of(answer),
            ..Default::default()
        }
    };
    let members = request.members.into_iter().zip(&answers).map(member).collect();
    LeaveGroupResponse {
        members,
        ..Default::default()
    }
}

async fn leave(
    context: &Context,
    group: &str,
    leaving: &[LeaveMember],
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    if group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    context
        .groups
        .shard(group)?
        .call(|groups, now_ms| groups.leave(now_ms, group, leaving))
        .await
}
