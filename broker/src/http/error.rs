//! What the admin interface answers when it refuses: a status, a word for programs, a sentence for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// A refusal.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

/// A refusal as JSON.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    /// A word for programs, such as `not_found`.
    error: &'static str,
    /// A sentence for people.
    message: String,
    /// Who uses what cannot be deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<String>,
}

impl ApiError {
    /// A refusal with a status, a word and a sentence.
    pub fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            body: ErrorBody {
                error,
                message: message.into(),
                users: Vec::new(),
            },
        }
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A request that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Whether it may be otherwise later.
    pub fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::GATEWAY_TIMEOUT
    }

    /// Something that cannot go because others use it.
    pub fn in_use(message: impl Into<String>, users: Vec<String>) -> Self {
        let mut error = Self::new(StatusCode::CONFLICT, "in_use", message);
        error.body.users = users;
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
