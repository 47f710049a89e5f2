//! The cluster and its brokers: what there is, and what Kafka's protocol has no words for: emptying a broker, who votes in
//! the quorum, which moves would make brokers even.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_core::cluster::{Broker, Command, Image, rebalance};
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use crate::context::Context;
use crate::controller::Refused;

/// The cluster as this broker sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterBody {
    cluster_id: String,
    /// The broker that answers.
    node_id: i32,
    /// Counts the changes of the cluster's image.
    image_version: u64,
    version: &'static str,
    /// Whether this broker has heard from the quorum not long ago. Where not, the rest is as it was last known.
    in_touch: bool,
    /// What the cluster's brokers may do; 0 for a lone broker.
    feature_level: u16,
    brokers: Vec<BrokerBody>,
    topics: usize,
    plugins: usize,
    /// Partitions that are stored.
    partitions: usize,
    /// Partitions that nobody leads.
    offline_partitions: usize,
    /// Partitions of which a replica is not in sync.
    under_replicated_partitions: usize,
    /// Partitions that are on their way to other brokers.
    moving_partitions: usize,
}

/// A broker.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrokerBody {
    id: i32,
    host: String,
    port: u16,
    rack: Option<String>,
    /// Where other brokers reach it; none for a lone broker.
    peer: Option<String>,
    /// Whether it is out of service.
    fenced: bool,
    /// Whether it is being emptied.
    draining: bool,
    /// The image's version at its registration.
    epoch: u64,
    /// SHA-256 of its certificate.
    fingerprint: Option<String>,
    /// The lowest and highest feature level that it can run.
    features: (u16, u16),
    /// Partitions that it holds.
    replicas: usize,
    /// Those of them that it leads.
    leaders: usize,
    /// Those of them in which it is not in sync.
    lagging: usize,
}

/// A partition that would be held by others, or led by another.
#[derive(Debug, Serialize, ToSchema)]
pub struct MoveBody {
    topic: String,
    partition: i32,
    /// Brokers that hold it, the preferred leader first.
    from: Vec<i32>,
    /// Brokers that would hold it, the preferred leader first.
    to: Vec<i32>,
    /// Brokers that would have to copy it.
    copies: Vec<i32>,
}

/// Shows the cluster.
#[utoipa::path(get, path = "/v1/cluster", responses((status = 200, description = "The cluster", body = ClusterBody)))]
pub async fn cluster(State(context): State<Arc<Context>>) -> Json<ClusterBody> {
    let image = context.controller.image();
    let loads = Load::of_all(&image);
    let count = |wanted: fn(&millstream_core::cluster::Partition) -> bool| {
        image.stored_partitions().filter(|(_, _, p)| wanted(p)).count()
    };
    Json(ClusterBody {
        cluster_id: context.cluster_id.clone(),
        node_id: context.settings.node_id,
        image_version: image.version(),
        version: env!("CARGO_PKG_VERSION"),
        in_touch: context.lease.is_valid(),
        feature_level: image.feature_level(),
        brokers: image.brokers().values().map(|b| broker_body(b, &loads)).collect(),
        topics: image.topics().len(),
        plugins: image.plugins().count(),
        partitions: count(|_| true),
        offline_partitions: count(|partition| partition.leader.is_none()),
        under_replicated_partitions: count(|partition| partition.is_under_replicated()),
        moving_partitions: count(|partition| partition.is_moving()),
    })
}

/// Begins to empty a broker: it gets no more replicas, and the plan moves those that it has.
#[utoipa::path(post, path = "/v1/cluster/brokers/{id}/drain", params(("id" = i32, Path)),
    responses((status = 204, description = "It is being emptied"),
        (status = 404, description = "There is no such broker", body = ErrorBody)))]
pub async fn drain(State(context): State<Arc<Context>>, Path(id): Path<i32>) -> Result<StatusCode, ApiError> {
    set_draining(&context, id, true).await
}

/// Takes a broker back that was being emptied.
#[utoipa::path(delete, path = "/v1/cluster/brokers/{id}/drain", params(("id" = i32, Path)),
    responses((status = 204, description = "It takes replicas again"),
        (status = 404, description = "There is no such broker", body = ErrorBody)))]
pub async fn undrain(
    State(context): State<Arc<Context>>,
    Path(id): Path<i32>,
) -> Result<StatusCode, ApiError> {
    set_draining(&context, id, false).await
}

/// Shows the moves that would empty draining brokers and make the others even.
#[utoipa::path(get, path = "/v1/cluster/rebalance",
    responses((status = 200, description = "The moves", body = Vec<MoveBody>)))]
pub async fn plan(State(context): State<Arc<Context>>) -> Result<Json<Vec<MoveBody>>, ApiError> {
    let image = context.controller.image();
    let internal_copies = context.settings.offsets_topic_replication_factor.max(1) as usize;
    let planned = tokio::task::spawn_blocking(move || {
        let moves = rebalance::plan(&image, internal_copies);
        let named = moves
            .iter()
            .filter_map(|m| Some((image.topic_by_id(m.topic)?, m)));
        let body = named.map(|(topic, m)| MoveBody {
            topic: topic.name.to_string(),
            partition: m.partition.0,
            from: numbers(&m.from),
            to: numbers(&m.to),
            copies: m.copies().map(|id| id.0).collect(),
        });
        body.collect()
    });
    let failed = |_| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the plan was not made",
        )
    };
    planned.await.map(Json).map_err(failed)
}

/// Lets a broker vote in the quorum that follows it already.
#[utoipa::path(post, path = "/v1/cluster/quorum/{id}", params(("id" = i32, Path)),
    responses((status = 204, description = "It votes"),
        (status = 400, description = "It cannot", body = ErrorBody)))]
pub async fn add_voter(
    State(context): State<Arc<Context>>,
    Path(id): Path<i32>,
) -> Result<StatusCode, ApiError> {
    context.controller.add_voter(BrokerId(id)).await.map_err(refuse)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a broker's vote; it follows on.
#[utoipa::path(delete, path = "/v1/cluster/quorum/{id}", params(("id" = i32, Path)),
    responses((status = 204, description = "It votes no more"),
        (status = 400, description = "It must go on", body = ErrorBody)))]
pub async fn remove_voter(
    State(context): State<Arc<Context>>,
    Path(id): Path<i32>,
) -> Result<StatusCode, ApiError> {
    let refused = |message: String| Err(ApiError::new(StatusCode::CONFLICT, "refused", message));
    if let Some(status) = context.controller.quorum_status() {
        let is_it = |member: &millstream_quorum::Member| i64::try_from(member.id) == Ok(i64::from(id));
        if !status.voters.iter().any(is_it) {
            let message = format!("broker {id} does not vote; 'millstream cluster quorum' shows who does");
            return Err(ApiError::not_found(message));
        }
        if status.voters.len() == 1 {
            return refused(format!(
                "broker {id} is the last that votes: give another one a vote first"
            ));
        }
        if status.leader.and_then(|leader| i32::try_from(leader).ok()) == Some(id) {
            return refused(format!(
                "broker {id} leads the quorum: restart it, so that another one leads, and ask again"
            ));
        }
    }
    context
        .controller
        .remove_voter(BrokerId(id))
        .await
        .map_err(refuse)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_draining(context: &Context, id: i32, draining: bool) -> Result<StatusCode, ApiError> {
    let id = BrokerId(id);
    let command = Command::DrainBroker { id, draining };
    context.controller.apply(command).await.map_err(refuse)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a broker holds.
#[derive(Debug, Default)]
struct Load {
    replicas: usize,
    leaders: usize,
    lagging: usize,
}

impl Load {
    fn of_all(image: &Image) -> BTreeMap<BrokerId, Self> {
        let mut loads: BTreeMap<BrokerId, Self> = BTreeMap::new();
        for (_, _, partition) in image.stored_partitions() {
            for id in &partition.replicas {
                let load = loads.entry(*id).or_default();
                load.replicas += 1;
                load.leaders += usize::from(partition.leader == Some(*id));
                load.lagging += usize::from(!partition.isr.contains(id));
            }
        }
        loads
    }
}

fn broker_body(broker: &Broker, loads: &BTreeMap<BrokerId, Load>) -> BrokerBody {
    let none = Load::default();
    let load = loads.get(&broker.id).unwrap_or(&none);
    BrokerBody {
        id: broker.id.0,
        host: broker.host.clone(),
        port: broker.port,
        rack: broker.rack.clone(),
        peer: broker.peer.clone(),
        fenced: broker.fenced,
        draining: broker.draining,
        epoch: broker.epoch,
        fingerprint: broker.fingerprint.clone(),
        features: broker.features,
        replicas: load.replicas,
        leaders: load.leaders,
        lagging: load.lagging,
    }
}

/// What the interface says to a command that was not carried out.
pub(super) fn refuse(refused: Refused) -> ApiError {
    let (status, word) = match refused.code {
        ErrorCode::BrokerIdNotRegistered => (StatusCode::NOT_FOUND, "not_found"),
        ErrorCode::PolicyViolation => (StatusCode::CONFLICT, "refused"),
        code if code.retriable() => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ErrorCode::KafkaStorageError | ErrorCode::UnknownServerError => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
        _ => (StatusCode::BAD_REQUEST, "refused"),
    };
    ApiError::new(status, word, refused.message)
}

fn numbers(ids: &[BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}
