//! ListGroups: all groups, or those in some states and of some types.

use std::sync::Arc;

use millstream_core::group::GroupListing;
use millstream_kafka::api::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers with the groups that this broker coordinates.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let wanted =
        |filter: &[Text], is: &str| filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(is));
    let mut groups = Vec::new();
    for shard in context.groups.shards().iter() {
        match shard.look(|groups| groups.list().collect::<Vec<_>>()) {
            Ok(listed) => {
                let listed = listed.into_iter().filter(|group| {
                    wanted(&request.states_filter, group.state.name())
                        && wanted(&request.types_filter, group.state.group_type())
                });
                groups.extend(listed.map(answer));
            }
            Err(error) => {
                return ListGroupsResponse {
                    error_code: code(error).code(),
                    ..Default::default()
                };
            }
        }
    }
    ListGroupsResponse {
        groups,
        ..Default::default()
    }
}

fn answer(group: GroupListing) -> ListedGroup {
    ListedGroup {
        group_id: Text::from(&*group.group),
        protocol_type: Text::from(group.protocol_type),
        group_state: Text::from(group.state.name()),
        group_type: Text::from(group.state.group_type()),
        ..Default::default()
    }
}
