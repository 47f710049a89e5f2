//! DeleteGroups: groups without members are forgotten with their offsets.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::group::GroupError;
use millstream_kafka::api::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers for every group.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    let mut seen = BTreeSet::new();
    for group_id in request.groups_names {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let error_code = delete(context, &group_id)
            .await
            .err()
            .map_or(0, |error| code(error).code());
        results.push(DeletableGroupResult {
            group_id,
            error_code,
            ..Default::default()
        });
    }
    DeleteGroupsResponse {
        results,
        ..Default::default()
    }
}

async fn delete(context: &Context, group: &str) -> Result<(), GroupError> {
    context
        .groups
        .shard(group)?
        .call(|groups, _| groups.delete_group(group))
        .await?
}
