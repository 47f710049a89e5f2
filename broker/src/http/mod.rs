//! The admin interface over HTTP: plugins, transforms, what the cluster holds, health, metrics.
//!
//! What Kafka's protocol can do (topics, groups, records) is done there; here it is only shown. Pushing plugins, deploying
//! transforms, emptying brokers and choosing who votes have no place in Kafka's protocol and are done here. The interface is described by itself at `/v1/openapi.json`.

mod cluster;
mod connections;
mod ends;
mod error;
mod groups;
mod health;
mod hosts;
pub(crate) mod metrics;
mod plugins;
mod topics;
pub(crate) mod transforms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use tokio::net::TcpListener;
use utoipa::OpenApi;

use crate::context::Context;
use connections::Connections;
use error::ApiError;
use hosts::AllowedHosts;

/// The interface's own description (OpenAPI 3.1).
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millstream admin interface",
        description = "Plugins, transforms, topics, views, groups, health and metrics of a broker."
    ),
    paths(
        health::healthz,
        health::readyz,
        metrics::metrics,
        plugins::list,
        plugins::push,
        plugins::describe,
        plugins::delete,
        topics::topics,
        topics::topic,
        topics::followers,
        topics::views,
        groups::groups,
        groups::group,
        transforms::list,
        transforms::describe,
        transforms::delete,
        transforms::pause,
        transforms::resume,
        transforms::scale,
        transforms::promote,
        transforms::logs,
        transforms::deploy::deploy,
        transforms::deploy::upgrade,
        transforms::place::reset,
        transforms::place::rollback,
        cluster::cluster,
        cluster::drain,
        cluster::undrain,
        cluster::plan,
        cluster::add_voter,
        cluster::remove_voter,
    )
)]
struct Description;

/// Serves the interface until the broker shuts down.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, context: Arc<Context>) -> std::io::Result<()> {
    let bound = listener.local_addr()?;
    let mut shutdown = context.shutdown.subscribe();
    let idle = Duration::from_millis(context.settings.connections_max_idle_ms as u64);
    axum::serve(Connections::new(listener, idle), router(context, bound))
        .with_graceful_shutdown(async move {
            // An error means that the broker is gone already.
            let _ = shutdown.wait_for(|down| *down).await;
        })
        .await
}

fn router(context: Arc<Context>, bound: SocketAddr) -> Router {
    let hosts = Arc::new(AllowedHosts::new(bound, &context.settings.http_allowed_hosts));
    let plugin_bytes_max = usize::try_from(context.settings.plugin_max_bytes).unwrap_or(usize::MAX);
    let plugins = get(plugins::list)
        .post(plugins::push)
        .layer(DefaultBodyLimit::max(plugin_bytes_max));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/openapi.json", get(async || Json(Description::openapi())))
        .route("/v1/plugins", plugins)
        .route("/v1/plugins/{name}", get(plugins::describe))
        .route("/v1/plugins/{name}/{version}", delete(plugins::delete))
        .route("/v1/topics", get(topics::topics))
        .route("/v1/topics/{name}", get(topics::topic))
        .route("/v1/topics/{name}/followers", get(topics::followers))
        .route("/v1/views", get(topics::views))
        .route("/v1/groups", get(groups::groups))
        .route("/v1/groups/{group}", get(groups::group))
        .route("/v1/cluster", get(cluster::cluster))
        .route(
            "/v1/cluster/brokers/{id}/drain",
            post(cluster::drain).delete(cluster::undrain),
        )
        .route("/v1/cluster/rebalance", get(cluster::plan))
        .route(
            "/v1/cluster/quorum/{id}",
            post(cluster::add_voter).delete(cluster::remove_voter),
        )
        .merge(transforms::router())
        .fallback(async || ApiError::not_found("there is nothing here; /v1/openapi.json tells what there is"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this cannot be done here",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(hosts, hosts::refuse_foreign))
        .with_state(context)
}

/// Largest body of a request that is no plugin.
const BODY_BYTES_MAX: usize = 64 * 1024;
