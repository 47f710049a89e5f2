//! The cluster and its brokers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Context;

/// The cluster as this broker sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterBody {
    cluster_id: String,
    /// The broker that answers.
    node_id: i32,
    /// Counts the changes of the cluster's image.
    image_version: u64,
    version: &'static str,
    brokers: Vec<BrokerBody>,
    topics: usize,
    plugins: usize,
}

/// A broker.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrokerBody {
    id: i32,
    host: String,
    port: u16,
    rack: Option<String>,
}

/// Shows the cluster.
#[utoipa::path(get, path = "/v1/cluster", responses((status = 200, description = "The cluster", body = ClusterBody)))]
pub async fn cluster(State(context): State<Arc<Context>>) -> Json<ClusterBody> {
    let image = context.controller.image();
    let broker = |broker: &millstream_core::cluster::Broker| BrokerBody {
        id: broker.id.0,
        host: broker.host.clone(),
        port: broker.port,
        rack: broker.rack.clone(),
    };
    Json(ClusterBody {
        cluster_id: context.cluster_id.clone(),
        node_id: context.settings.node_id,
        image_version: image.version(),
        version: env!("CARGO_PKG_VERSION"),
        brokers: image.brokers().values().map(broker).collect(),
        topics: image.topics().len(),
        plugins: image.plugins().count(),
    })
}
