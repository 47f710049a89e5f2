//! Whether the broker lives, and whether it serves.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::error::ApiError;
use crate::context::Context;

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It lives", body = String)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The broker serves clients: it has recovered its logs, the cluster counts on it, and it is not shutting down.
#[utoipa::path(get, path = "/readyz",
    responses((status = 200, description = "It serves", body = String),
        (status = 503, description = "It is shutting down, its disk is full, or it is cut off from the quorum", body = super::error::ErrorBody)))]
pub async fn readyz(State(context): State<Arc<Context>>) -> Result<&'static str, ApiError> {
    let is_not = |word, why| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, word, why));
    if *context.shutdown.borrow() {
        return is_not("shutting_down", "the broker is shutting down");
    }
    if context.controller.is_out_of_room() {
        return is_not(
            "disk_full",
            "the disk is full: the broker takes no writes until there is room on it",
        );
    }
    if !context.lease.is_valid() {
        return is_not(
            "no_lease",
            "the broker hears nothing from the quorum: it refuses writes with acks=all until it does",
        );
    }
    Ok("ready\n")
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::response::IntoResponse;

    use super::*;
    use crate::{Broker, Settings};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_is_cut_off_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::of_test(&dir.path().join("data"));
        let broker = Broker::start(settings).await.unwrap();
        let context = broker.context().clone();
        assert_eq!(readyz(State(context.clone())).await.unwrap(), "ready\n");
        context.lease.end();
        let refused = readyz(State(context)).await.unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = to_bytes(refused.into_body(), 1 << 10).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"], "no_lease");
        broker.shutdown().await;
    }
}
