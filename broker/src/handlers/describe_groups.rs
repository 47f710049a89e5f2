//! DescribeGroups: state and members of groups.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::group::{GroupDescription, GroupError, MemberDescription};
use millstream_kafka::api::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers for every group. One that does not exist or is of the new protocol is `Dead`, and an error from version 6 on (KIP-1043).
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let describe = |group: Text| {
        let described = context
            .groups
            .shard(&group)
            .and_then(|shard| shard.look(|groups| groups.describe(&group)));
        match described {
            Ok(Some(description)) => answer(group, description),
            Ok(None) if version >= 6 => {
                let message = match contains(context, &group) {
                    true => format!("Group {} is not a classic group.", &*group),
                    false => format!("Group {} not found.", &*group),
                };
                refused(group, GroupError::GroupIdNotFound, Some(message))
            }
            Ok(None) => DescribedGroup {
                error_code: 0,
                ..refused(group, GroupError::GroupIdNotFound, None)
            },
            Err(error) => refused(group, error, None),
        }
    };
    // Kafka answers for ids that cannot be before it looks for the others.
    let (empty, named): (Vec<Text>, Vec<Text>) =
        request.groups.into_iter().partition(|group| group.is_empty());
    DescribeGroupsResponse {
        groups: empty.into_iter().chain(named).map(describe).collect(),
        ..Default::default()
    }
}

/// Whether there is such a group, of the new protocol.
fn contains(context: &Context, group: &str) -> bool {
    let shard = context.groups.shard(group);
    shard.is_ok_and(|shard| shard.look(|groups| groups.contains(group)).unwrap_or(false))
}

fn answer(group_id: Text, description: GroupDescription) -> DescribedGroup {
    let member = |member: MemberDescription| DescribedGroupMember {
        member_id: Text::from(member.member_id),
        group_instance_id: member.instance.map(Text::from),
        client_id: Text::from(member.client_id),
        client_host: Text::from(member.client_host),
        member_metadata: Bytes::from_owner(member.metadata),
        member_assignment: Bytes::from_owner(member.assignment),
        ..Default::default()
    };
    DescribedGroup {
        group_id,
        group_state: Text::from(description.state.name()),
        protocol_type: Text::from(description.protocol_type),
        protocol_data: Text::from(description.protocol),
        members: description.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn refused(group_id: Text, error: GroupError, message: Option<String>) -> DescribedGroup {
    DescribedGroup {
        error_code: code(error).code(),
        error_message: message.map(Text::from),
        group_id,
        group_state: Text::from("Dead"),
        ..Default::default()
    }
}
