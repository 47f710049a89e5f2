//! What the interface says to wishes about transforms that are not granted, and how it reads them.

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use bytes::Bytes;
use millstream_core::cluster::{Refusal, TransformRefusal};
use serde::de::DeserializeOwned;

use crate::controller::Refused;
use crate::handlers::admin::Denied;
use crate::http::error::ApiError;
use crate::workers::reset::ResetError;

/// Reads a body of JSON; one that is empty asks for nothing in particular.
///
/// # Errors
/// It is too large, no JSON, or says what means nothing here.
pub fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let body = body
        .map_err(|rejection| ApiError::new(rejection.status(), "invalid_request", rejection.body_text()))?;
    let text: &[u8] = match body.trim_ascii() {
        [] => b"{}",
        text => text,
    };
    serde_json::from_slice(text).map_err(|error| ApiError::invalid(error.to_string()))
}

/// A query that cannot be read.
pub fn query(rejection: QueryRejection) -> ApiError {
    // What is wrong, without how it was found.
    let text = rejection.body_text();
    let reason = text.strip_prefix("Failed to deserialize query string: ");
    ApiError::invalid(reason.unwrap_or(&text))
}

/// A command that was not carried out.
pub fn command(refused: Refused) -> ApiError {
    match refused.refusal {
        Some(refusal) => by_image(&refusal),
        None => crate::http::cluster::refuse(refused),
    }
}

/// A command that the image refuses.
pub fn by_image(refusal: &Refusal) -> ApiError {
    let message = refusal.to_string();
    let conflict = |word| ApiError::new(StatusCode::CONFLICT, word, message.clone());
    match refusal {
        Refusal::Transform(TransformRefusal::Unknown(_)) => ApiError::not_found(message),
        Refusal::Transform(TransformRefusal::Exists(_) | TransformRefusal::IdExists(_))
        | Refusal::TopicExists(_) => conflict("exists"),
        Refusal::Transform(
            TransformRefusal::TooMany
            | TransformRefusal::CanaryUnderWay { .. }
            | TransformRefusal::NothingBefore(_),
        ) => conflict("state"),
        Refusal::Transform(TransformRefusal::TopicInUse { .. }) => conflict("in_use"),
        _ => invalid(message),
    }
}

/// A topic that cannot be made.
pub fn topic(denied: Denied) -> ApiError {
    let message = denied.message;
    match denied.code {
        code if code.retriable() => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message),
        _ => invalid(message),
    }
}

/// Offsets that were not set.
pub fn reset(error: ResetError) -> ApiError {
    let message = error.to_string();
    match error {
        ResetError::NotPaused(_) => ApiError::new(StatusCode::CONFLICT, "state", message),
        ResetError::Unavailable(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message),
    }
}

/// A transform that cannot be so.
pub fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_transform", message)
}
