//! Consumer groups: who is in them, how far they have read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_core::group::consumer::ConsumerDescription;
use millstream_core::group::{AnyState, CommittedOffset, GroupDescription};
use serde::Serialize;
use utoipa::ToSchema;

use super::ends::ends;
use super::error::{ApiError, ErrorBody};
use crate::context::Context;

/// A group in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupBody {
    group: String,
    /// Kafka's name of the state.
    state: &'static str,
    protocol_type: String,
    /// `classic`, or `consumer` for the new protocol (KIP-848).
    group_type: &'static str,
}

/// A group, its members and offsets.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupDetailBody {
    group: String,
    state: &'static str,
    /// `classic`, or `consumer` for the new protocol (KIP-848).
    group_type: &'static str,
    /// The assignor.
    protocol: String,
    members: Vec<MemberBody>,
    offsets: Vec<OffsetBody>,
}

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberBody {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
}

/// How far a group has read in a partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct OffsetBody {
    /// Name of the topic.
    pub topic: String,
    /// Index of the partition.
    pub partition: i32,
    /// Offset of the next record to read.
    pub committed: i64,
    /// Offset after the last record that may be read; none where the topic is gone, or its leader does not tell.
    pub end: Option<i64>,
    /// Records between the two.
    pub lag: Option<i64>,
}

/// Lists groups.
#[utoipa::path(get, path = "/v1/groups",
    responses((status = 200, description = "Groups by name", body = Vec<GroupBody>),
        (status = 503, description = "Groups are being loaded", body = ErrorBody)))]
pub async fn groups(State(context): State<Arc<Context>>) -> Result<Json<Vec<GroupBody>>, ApiError> {
    let mut found = Vec::new();
    for shard in context.groups.shards().iter() {
        let listed = shard
            .look(|groups| groups.list().collect::<Vec<_>>())
            .map_err(|_| loading())?;
        found.extend(listed.into_iter().map(|group| GroupBody {
            group: group.group.to_string(),
            state: group.state.name(),
            group_type: group.state.group_type(),
            protocol_type: group.protocol_type,
        }));
    }
    found.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    Ok(Json(found))
}

/// Shows a group with its lag.
#[utoipa::path(get, path = "/v1/groups/{group}", params(("group" = String, Path)),
    responses((status = 200, description = "The group", body = GroupDetailBody),
        (status = 404, description = "There is no such group", body = ErrorBody),
        (status = 503, description = "Groups are being loaded", body = ErrorBody)))]
pub async fn group(
    State(context): State<Arc<Context>>,
    Path(group): Path<String>,
) -> Result<Json<GroupDetailBody>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no group '{group}'"));
    if !context.groups.is_started() {
        return Err(unknown());
    }
    let shard = context.groups.shard(&group).map_err(|_| loading())?;
    let look = shard.look(|groups| {
        let classic = || {
            groups
                .describe(&group)
                .map(|described| classic(&group, described))
        };
        let described = groups
            .describe_consumer(&group)
            .map(|described| consumer(&group, described))
            .or_else(classic)?;
        Some((described, groups.offsets(&group)))
    });
    let (described, offsets) = look.map_err(|_| loading())?.ok_or_else(unknown)?;
    let mut offsets: Vec<OffsetBody> = offsets.iter().map(OffsetBody::of).collect();
    fill_in(&context, offsets.iter_mut()).await;
    Ok(Json(GroupDetailBody { offsets, ..described }))
}

fn classic(group: &str, described: GroupDescription) -> GroupDetailBody {
    let members = described.members.into_iter().map(|member| MemberBody {
        member: member.member_id,
        instance: member.instance,
        client: member.client_id,
        host: member.client_host,
    });
    GroupDetailBody {
        group: group.to_owned(),
        state: described.state.name(),
        group_type: AnyState::Classic(described.state).group_type(),
        protocol: described.protocol,
        members: members.collect(),
        offsets: Vec::new(),
    }
}

fn consumer(group: &str, described: ConsumerDescription) -> GroupDetailBody {
    let members = described.members.into_iter().map(|member| MemberBody {
        member: member.member.to_string(),
        instance: member.instance,
        client: member.client_id,
        host: member.client_host,
    });
    GroupDetailBody {
        group: group.to_owned(),
        state: described.state.name(),
        group_type: AnyState::Consumer(described.state).group_type(),
        protocol: described.assignor.to_owned(),
        members: members.collect(),
        offsets: Vec::new(),
    }
}

/// Every committed offset of every group, with its lag: what `/metrics` shows. Groups that are being loaded are left
/// out.
pub async fn all_offsets(context: &Arc<Context>) -> Vec<(String, OffsetBody)> {
    let mut found = Vec::new();
    for shard in context.groups.shards().iter() {
        let offsets = shard.look(|groups| {
            let ids = groups
                .list()
                .map(|group| group.group.to_string())
                .collect::<Vec<_>>();
            ids.into_iter()
                .map(|id| (groups.offsets(&id), id))
                .collect::<Vec<_>>()
        });
        for (offsets, group) in offsets.into_iter().flatten() {
            found.extend(
                offsets
                    .iter()
                    .map(|offset| (group.clone(), OffsetBody::of(offset))),
            );
        }
    }
    fill_in(context, found.iter_mut().map(|(_, offset)| offset)).await;
    found
}

/// Says where the partitions end, as far as their leaders tell, and so how far behind the group is.
async fn fill_in(context: &Arc<Context>, offsets: impl Iterator<Item = &mut OffsetBody>) {
    let mut offsets: Vec<&mut OffsetBody> = offsets.collect();
    let partitions = offsets
        .iter()
        .map(|offset| (offset.topic.clone(), offset.partition));
    let known = ends(context, partitions.collect()).await;
    for offset in &mut offsets {
        offset.end = known.get(&(offset.topic.clone(), offset.partition)).copied();
        offset.lag = offset.end.map(|end| (end - offset.committed).max(0));
    }
}

impl OffsetBody {
    fn of(offset: &CommittedOffset) -> Self {
        Self {
            topic: offset.topic.to_string(),
            partition: offset.partition,
            committed: offset.offset,
            end: None,
            lag: None,
        }
    }
}

fn loading() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "loading",
        "the group coordinator is reading its log; try again",
    )
}
