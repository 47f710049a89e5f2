//! Transforms: deploy, list, describe, change, delete, and what their plugins log.

pub mod body;
pub mod deploy;
pub mod place;
mod refuse;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use millstream_core::cluster::{self, Command, Image, Outcome, Transform, TransformChange};

use self::body::{ChangedBody, DetailBody, Keeping, PromoteBody, ScaleBody, TransformBody};
use super::error::{ApiError, ErrorBody};
use super::plugins::LogBody;
use crate::context::{Context, now_ms};
use crate::workers::{report, reset};

/// The ways to transforms.
pub fn router() -> Router<Arc<Context>> {
    let configured = DefaultBodyLimit::max(CONFIGURED_BYTES_MAX);
    Router::new()
        .route("/v1/transforms", get(list).post(deploy::deploy).layer(configured))
        .route("/v1/transforms/{name}", get(describe).delete(delete))
        .route("/v1/transforms/{name}/pause", post(pause))
        .route("/v1/transforms/{name}/resume", post(resume))
        .route("/v1/transforms/{name}/scale", post(scale))
        .route(
            "/v1/transforms/{name}/upgrade",
            post(deploy::upgrade).layer(configured),
        )
        .route("/v1/transforms/{name}/promote", post(promote))
        .route("/v1/transforms/{name}/rollback", post(place::rollback))
        .route("/v1/transforms/{name}/reset", post(place::reset))
        .route("/v1/transforms/{name}/logs", get(logs))
}

/// Lists transforms by name.
#[utoipa::path(get, path = "/v1/transforms",
    responses((status = 200, description = "Transforms by name", body = Vec<TransformBody>)))]
pub async fn list(State(context): State<Arc<Context>>) -> Json<Vec<TransformBody>> {
    let image = context.controller.image();
    let all = image
        .transforms()
        .map(|transform| TransformBody::of(&image, transform));
    Json(all.collect())
}

/// Shows a transform and how each of its partitions is, which all brokers are asked.
#[utoipa::path(get, path = "/v1/transforms/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "The transform", body = DetailBody),
        (status = 404, description = "There is no such transform", body = ErrorBody)))]
pub async fn describe(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<DetailBody>, ApiError> {
    let transform = find(&context, &name)?;
    let mut reports = report::reports(&context, &transform).await;
    place::fill_in(&context, &transform, &mut reports).await;
    Ok(Json(DetailBody::of(&transform, reports)))
}

/// Deletes a transform and, unless they are kept, its offsets. Its sinks stay.
#[utoipa::path(delete, path = "/v1/transforms/{name}", params(("name" = String, Path), Keeping),
    responses((status = 204, description = "It is deleted"),
        (status = 404, description = "There is no such transform", body = ErrorBody),
        (status = 503, description = "It is deleted, and its offsets are not", body = ErrorBody)))]
pub async fn delete(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    keeping: Result<Query<Keeping>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(Keeping { keep_offsets }) = keeping.map_err(refuse::query)?;
    let transform = find(&context, &name)?;
    let command = Command::DeleteTransform { name };
    context.controller.apply(command).await.map_err(refuse::command)?;
    // It is done to its end although the client may have gone.
    let ending = tokio::spawn(async move {
        fence(&context, &transform).await;
        match keep_offsets {
            true => Ok(()),
            false => forget(&context, &transform).await,
        }
    });
    let ended = ending.await;
    ended.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(StatusCode::NO_CONTENT)
}

/// Sees to it that a transform that is gone commits nothing any more. Other brokers may not have heard yet: what they
/// commit late would stay behind, or come in between one that is deployed under the same name and goes on at its offsets.
async fn fence(context: &Arc<Context>, transform: &Transform) {
    let fenced = tokio::time::timeout(FENCE_WAIT, reset::fence(context, transform)).await;
    if !matches!(fenced, Ok(Ok(()))) {
        let name = &transform.spec.name;
        tracing::warn!(
            name,
            "whoever ran a transform that is deleted was not fenced in time"
        );
    }
}

/// Forgets how far a transform was that is gone.
async fn forget(context: &Arc<Context>, transform: &Transform) -> Result<(), ApiError> {
    let name = &transform.spec.name;
    reset::delete_offsets(context, name).await.map_err(|reason| {
        let message = format!(
            "transform '{name}' is deleted, but its offsets are still there ({reason}): one that is deployed under that name \
             goes on at them until it is reset"
        );
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    })
}

/// Stops a transform; its offsets stay.
#[utoipa::path(post, path = "/v1/transforms/{name}/pause", params(("name" = String, Path)),
    responses((status = 200, description = "It is paused", body = ChangedBody),
        (status = 404, description = "There is no such transform", body = ErrorBody)))]
pub async fn pause(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<ChangedBody>, ApiError> {
    change(&context, &name, TransformChange::Pause, false)
        .await
        .map(Json)
}

/// Has a transform go on; partitions that failed begin anew, at the record that they failed on.
#[utoipa::path(post, path = "/v1/transforms/{name}/resume", params(("name" = String, Path)),
    responses((status = 200, description = "It runs", body = ChangedBody),
        (status = 404, description = "There is no such transform", body = ErrorBody)))]
pub async fn resume(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<ChangedBody>, ApiError> {
    change(&context, &name, TransformChange::Resume, false)
        .await
        .map(Json)
}

/// Bounds the workers of a transform.
#[utoipa::path(post, path = "/v1/transforms/{name}/scale", params(("name" = String, Path)), request_body = ScaleBody,
    responses((status = 200, description = "It is so", body = ChangedBody),
        (status = 400, description = "So many cannot be", body = ErrorBody),
        (status = 404, description = "There is no such transform", body = ErrorBody)))]
pub async fn scale(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChangedBody>, ApiError> {
    let ScaleBody { workers } = refuse::read(body)?;
    change(&context, &name, TransformChange::Scale { workers }, false)
        .await
        .map(Json)
}

/// Runs the canary on all partitions.
#[utoipa::path(post, path = "/v1/transforms/{name}/promote", params(("name" = String, Path)), request_body = PromoteBody,
    responses((status = 200, description = "It runs everywhere", body = ChangedBody),
        (status = 404, description = "There is no such transform", body = ErrorBody),
        (status = 409, description = "There is no such canary", body = ErrorBody)))]
pub async fn promote(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChangedBody>, ApiError> {
    let asked: PromoteBody = refuse::read(body)?;
    let transform = find(&context, &name)?;
    let tried = transform.canary.as_ref().map(|canary| canary.release.generation);
    let meant = tried.filter(|tried| asked.generation.is_none_or(|meant| meant == *tried));
    let generation = meant.ok_or_else(|| {
        let message = match (asked.generation, tried) {
            (Some(meant), Some(tried)) => format!("generation {tried} is on trial, not {meant}: look again"),
            _ => format!("transform '{name}' has no upgrade on trial: there is nothing to promote"),
        };
        ApiError::new(StatusCode::CONFLICT, "state", message)
    })?;
    change(&context, &name, TransformChange::Promote { generation }, false)
        .await
        .map(Json)
}

/// Shows the last lines that a transform's plugins logged on all brokers, oldest first.
#[utoipa::path(get, path = "/v1/transforms/{name}/logs", params(("name" = String, Path)),
    responses((status = 200, description = "The lines", body = Vec<LogBody>),
        (status = 404, description = "There is no such transform", body = ErrorBody)))]
pub async fn logs(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<LogBody>>, ApiError> {
    let transform = find(&context, &name)?;
    let canary = transform
        .canary
        .as_ref()
        .map(|canary| canary.release.plugin.as_str());
    let mut lines = report::logs(&context, &transform.current.plugin).await;
    if let Some(other) = canary.filter(|plugin| *plugin != transform.current.plugin) {
        lines.extend(report::logs(&context, other).await);
        lines.sort_by_key(|line| line.time_ms);
    }
    Ok(Json(lines.into_iter().map(LogBody::from).collect()))
}

fn find(context: &Context, name: &str) -> Result<Arc<Transform>, ApiError> {
    let image = context.controller.image();
    let found = image.transform(name).cloned();
    found.ok_or_else(|| ApiError::not_found(format!("there is no transform '{name}'")))
}

/// Changes a transform, or with `dry_run` only says how it would be.
async fn change(
    context: &Arc<Context>,
    name: &str,
    change: TransformChange,
    dry_run: bool,
) -> Result<ChangedBody, ApiError> {
    if dry_run {
        let (image, outcome) = check_change(context, name, &change)?;
        return changed(&image, name, &outcome);
    }
    let command = Command::ChangeTransform {
        name: name.to_owned(),
        change,
        at_ms: now_ms(),
    };
    let outcome = context.controller.apply(command).await.map_err(refuse::command)?;
    changed(&context.controller.image(), name, &outcome)
}

/// Changes a transform in a copy of the image.
fn check_change(
    context: &Context,
    name: &str,
    change: &TransformChange,
) -> Result<(Image, Outcome), ApiError> {
    let mut image = Image::clone(&context.controller.image());
    let command = Command::ChangeTransform {
        name: name.to_owned(),
        change: change.clone(),
        at_ms: now_ms(),
    };
    let outcome = cluster::apply(&mut image, &command).map_err(|refusal| refuse::by_image(&refusal))?;
    Ok((image, outcome))
}

fn changed(image: &Image, name: &str, outcome: &Outcome) -> Result<ChangedBody, ApiError> {
    let transform = match outcome {
        Outcome::Transform(transform) => Some(transform),
        _ => image.transform(name),
    };
    let transform = transform.ok_or_else(|| ApiError::not_found(format!("transform '{name}' is gone")))?;
    Ok(ChangedBody {
        changed: matches!(outcome, Outcome::Transform(_)),
        transform: TransformBody::of(image, transform),
        moved: Vec::new(),
    })
}

/// How long it may take to fence whoever ran a transform that is deleted.
const FENCE_WAIT: Duration = Duration::from_secs(10);
/// Largest body with a configuration in it: one of full length, with every other character escaped, fits.
const CONFIGURED_BYTES_MAX: usize = 256 * 1024;
