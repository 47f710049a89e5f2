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

/// The broker serves clients: it has recovered its logs and is not shutting down.
#[utoipa::path(get, path = "/readyz",
    responses((status = 200, description = "It serves", body = String),
        (status = 503, description = "It is shutting down", body = super::error::ErrorBody)))]
pub async fn readyz(State(context): State<Arc<Context>>) -> Result<&'static str, ApiError> {
    if *context.shutdown.borrow() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            "the broker is shutting down",
        ));
    }
    Ok("ready\n")
}
