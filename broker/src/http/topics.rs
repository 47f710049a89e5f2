//! Topics and views: what they are, how much they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use millstream_core::cluster;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, ErrorBody};
use crate::context::Context;
use crate::controller::messages::FollowerLag;

/// A topic in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicBody {
    name: String,
    id: String,
    partitions: usize,
    /// Whether it is one of the brokers' own.
    internal: bool,
    /// The topic that it is a view of.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

/// A topic with its configs and partitions.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicDetailBody {
    #[serde(flatten)]
    topic: TopicBody,
    /// The configs that were set.
    configs: BTreeMap<String, String>,
    offsets: Vec<PartitionBody>,
    /// Views that read it.
    views: Vec<String>,
}

/// A partition's offsets and size. A view has those of its source, and stores nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartitionBody {
    partition: i32,
    leader: Option<i32>,
    start_offset: i64,
    /// Where readers may read to.
    end_offset: i64,
    bytes: u64,
}

/// How far the followers of a topic's partitions are.
#[derive(Debug, Serialize, ToSchema)]
pub struct FollowersBody {
    cluster_id: String,
    /// The racks of the brokers that hold replicas, also of those that are down; none for a broker without one.
    racks: BTreeMap<i32, String>,
    /// The partitions whose leaders said so.
    partitions: Vec<PartitionFollowersBody>,
}

/// How far the followers of a partition are.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartitionFollowersBody {
    partition: i32,
    followers: Vec<FollowerBody>,
}

/// How far a follower is, as its leader knows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct FollowerBody {
    broker: i32,
    /// Records that it lacks.
    lag_records: i64,
    /// How long ago it held all that the leader had.
    lag_ms: i64,
}

/// A view in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewBody {
    name: String,
    source: String,
    partitions: usize,
    /// What runs on each record, in this order: names or objects, as they were attached.
    plugins: Value,
}

/// Lists topics and views.
#[utoipa::path(get, path = "/v1/topics",
    responses((status = 200, description = "Topics by name", body = Vec<TopicBody>)))]
pub async fn topics(State(context): State<Arc<Context>>) -> Json<Vec<TopicBody>> {
    let image = context.controller.image();
    Json(image.topics().map(|topic| body(&image, topic)).collect())
}

/// Shows a topic or a view.
#[utoipa::path(get, path = "/v1/topics/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "The topic", body = TopicDetailBody),
        (status = 404, description = "There is no such topic", body = ErrorBody)))]
pub async fn topic(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<TopicDetailBody>, ApiError> {
    let image = context.controller.image();
    let topic = find(&image, &name)?;
    Ok(Json(TopicDetailBody {
        topic: body(&image, topic),
        configs: topic.configs.clone(),
        offsets: offsets(&context, &image, topic),
        views: image.views_of(&name).map(|view| view.name.to_string()).collect(),
    }))
}

/// Shows how far the followers of a topic's partitions are. Leaders are asked for a moment.
#[utoipa::path(get, path = "/v1/topics/{name}/followers", params(("name" = String, Path)),
    responses((status = 200, description = "The followers", body = FollowersBody),
        (status = 404, description = "There is no such topic", body = ErrorBody)))]
pub async fn followers(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<FollowersBody>, ApiError> {
    let image = context.controller.image();
    let topic = find(&image, &name)?;
    let stored = image.stored_topic(topic);
    let known = context.controller.followers(&image, stored).await;
    let holders = stored.partitions.iter().flat_map(|partition| &partition.replicas);
    let racks = holders.filter_map(|id| Some((id.0, image.brokers().get(id)?.rack.clone()?)));
    let body = |follower: FollowerLag| FollowerBody {
        broker: follower.broker.0,
        lag_records: follower.lag_records,
        lag_ms: follower.lag_ms,
    };
    let partitions = known
        .into_iter()
        .map(|(partition, followers)| PartitionFollowersBody {
            partition,
            followers: followers.into_iter().map(body).collect(),
        });
    Ok(Json(FollowersBody {
        cluster_id: context.cluster_id.clone(),
        racks: racks.collect(),
        partitions: partitions.collect(),
    }))
}

/// Lists views.
#[utoipa::path(get, path = "/v1/views",
    responses((status = 200, description = "Views by name", body = Vec<ViewBody>)))]
pub async fn views(State(context): State<Arc<Context>>) -> Json<Vec<ViewBody>> {
    let image = context.controller.image();
    let view = |topic: &Arc<cluster::Topic>| {
        let plugins = topic
            .configs
            .get("millstream.view.plugins")
            .map(String::as_str)
            .unwrap_or("[]");
        Some(ViewBody {
            name: topic.name.to_string(),
            source: topic.view_source()?.to_owned(),
            partitions: image.partitions(topic).len(),
            plugins: serde_json::from_str(plugins).unwrap_or(Value::Null),
        })
    };
    Json(image.topics().filter_map(view).collect())
}

fn find<'a>(image: &'a cluster::Image, name: &str) -> Result<&'a Arc<cluster::Topic>, ApiError> {
    let found = image.topic(name);
    found.ok_or_else(|| ApiError::not_found(format!("there is no topic '{name}'")))
}

fn body(image: &cluster::Image, topic: &Arc<cluster::Topic>) -> TopicBody {
    TopicBody {
        name: topic.name.to_string(),
        id: topic.id.0.to_string(),
        partitions: image.partitions(topic).len(),
        internal: topic.is_internal(),
        source: topic.view_source().map(str::to_owned),
    }
}

fn offsets(context: &Context, image: &cluster::Image, topic: &Arc<cluster::Topic>) -> Vec<PartitionBody> {
    let stored = image.stored_topic(topic);
    let Ok(running) = context.topics.find(stored.name.as_str(), Uuid::nil()) else {
        return Vec::new();
    };
    let partitions = image.partitions(topic).iter().zip(0_i32..);
    partitions
        .filter_map(|(partition, index)| {
            let owner = running.partition(index)?;
            let watermarks = owner.watermarks();
            Some(PartitionBody {
                partition: index,
                leader: partition.leader.map(|leader| leader.0),
                start_offset: watermarks.log_start.0,
                end_offset: watermarks.high.0,
                bytes: if topic.is_view() {
                    0
                } else {
                    owner.with_log(|log| log.size_bytes())
                },
            })
        })
        .collect()
}
