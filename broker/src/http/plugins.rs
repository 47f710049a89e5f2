//! Plugins: push, list, describe, delete.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use millstream_core::cluster::{Image, Plugin, PluginLimits, PluginVersion};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use crate::context::Context;
use crate::plugins::{LogLine, PluginError, Stats};

/// How to store a component.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[into_params(parameter_in = Query)]
pub struct PushQuery {
    /// Name to store it under.
    name: String,
    /// Version; without it, the one after the newest.
    version: Option<String>,
    /// Memory of one instance, in bytes.
    memory_bytes: Option<u64>,
    /// Fuel of one call.
    fuel: Option<u64>,
    /// Output of one call, in bytes.
    output_bytes: Option<u64>,
    /// Instances at a time.
    instances: Option<u32>,
    /// Bytes of log lines in a second.
    log_bytes_per_s: Option<u64>,
}

/// A version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginBody {
    name: String,
    version: String,
    /// SHA-256 of the component, in hexadecimal.
    sha256: String,
    /// `filter`, `partitioner` or `transform`.
    world: String,
    /// Size of the component, in bytes.
    size: u64,
    /// When it was pushed, in milliseconds since 1970.
    pushed_at_ms: i64,
    /// Topics and views that use it, and as what.
    users: Vec<String>,
}

/// A plugin with its versions, what it cost and what it logged.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginDetailBody {
    name: String,
    /// Oldest first.
    versions: Vec<PluginBody>,
    stats: Vec<StatsBody>,
    /// The last lines that it logged.
    log: Vec<LogBody>,
}

/// What an attached plugin has done since the broker started.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsBody {
    /// Topic or view.
    attached_to: String,
    version: String,
    calls: u64,
    records: u64,
    errors: u64,
    /// Mean time per record, in nanoseconds.
    ns_per_record: f64,
    /// Why it failed the last time, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// A line that a plugin logged.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogBody {
    time_ms: i64,
    level: Cow<'static, str>,
    message: String,
}

impl From<LogLine> for LogBody {
    fn from(line: LogLine) -> Self {
        Self {
            time_ms: line.time_ms,
            level: line.level,
            message: line.message,
        }
    }
}

/// Lists plugins by name, each with its newest version.
#[utoipa::path(get, path = "/v1/plugins",
    responses((status = 200, description = "Plugins by name", body = Vec<PluginBody>)))]
pub async fn list(State(context): State<Arc<Context>>) -> Json<Vec<PluginBody>> {
    let image = context.controller.image();
    let newest: BTreeMap<&str, &Arc<Plugin>> = image.plugins().fold(BTreeMap::new(), |mut newest, plugin| {
        let known = newest.entry(plugin.name.as_str()).or_insert(plugin);
        if plugin.version > known.version {
            *known = plugin;
        }
        newest
    });
    Json(newest.into_values().map(|plugin| body(&image, plugin)).collect())
}

/// Stores a component under a name. The same bytes again change nothing.
#[utoipa::path(post, path = "/v1/plugins", params(PushQuery),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 200, description = "It was stored before", body = PluginBody),
        (status = 201, description = "It is stored", body = PluginBody),
        (status = 400, description = "It is no component that can be used, or the query is wrong", body = ErrorBody),
        (status = 408, description = "It did not arrive in time", body = ErrorBody),
        (status = 409, description = "That version has other bytes", body = ErrorBody),
        (status = 413, description = "It is too large", body = ErrorBody)))]
pub async fn push(
    State(context): State<Arc<Context>>,
    query: Result<Query<PushQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let Query(query) = query.map_err(|rejection| {
        // What is wrong, without how it was found.
        let text = rejection.body_text();
        let reason = text.strip_prefix("Failed to deserialize query string: ");
        ApiError::invalid(reason.unwrap_or(&text))
    })?;
    let component = component(&context, request).await?;
    let version = query.version.as_deref().map(parse_version).transpose()?;
    let limits = PluginLimits {
        memory_bytes: query.memory_bytes,
        fuel: query.fuel,
        output_bytes: query.output_bytes,
        instances: query.instances,
        log_bytes_per_s: query.log_bytes_per_s,
    };
    let (plugin, created) = context
        .plugins
        .push(&context, query.name, version, limits, component)
        .await
        .map_err(refuse)?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(body(&context.controller.image(), &plugin))))
}

/// Shows a plugin.
#[utoipa::path(get, path = "/v1/plugins/{name}", params(("name" = String, Path)),
    responses((status = 200, description = "The plugin", body = PluginDetailBody),
        (status = 404, description = "There is no such plugin", body = ErrorBody)))]
pub async fn describe(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
) -> Result<Json<PluginDetailBody>, ApiError> {
    let image = context.controller.image();
    let mut versions: Vec<&Arc<Plugin>> = image.plugins().filter(|plugin| plugin.name == name).collect();
    if versions.is_empty() {
        return Err(ApiError::not_found(format!("there is no plugin '{name}'")));
    }
    versions.sort_unstable_by_key(|plugin| plugin.version);
    let log = context.plugins.log(&name).into_iter().map(LogBody::from);
    Ok(Json(PluginDetailBody {
        versions: versions.into_iter().map(|plugin| body(&image, plugin)).collect(),
        stats: context
            .plugins
            .stats()
            .into_iter()
            .filter(|stats| stats.plugin == name)
            .map(stats_body)
            .collect(),
        log: log.collect(),
        name,
    }))
}

/// Deletes a version that nobody uses.
#[utoipa::path(delete, path = "/v1/plugins/{name}/{version}", params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 204, description = "It is deleted"),
        (status = 400, description = "The version is none", body = ErrorBody),
        (status = 404, description = "There is no such version", body = ErrorBody),
        (status = 409, description = "Topics or views use it", body = ErrorBody)))]
pub async fn delete(
    State(context): State<Arc<Context>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let version = parse_version(&version)?;
    context
        .plugins
        .delete(&context, name, version)
        .await
        .map_err(refuse)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The bytes that are pushed. Those that are announced to be too many are refused before they are sent: a client that
/// has sent some of them would not see the answer.
async fn component(context: &Context, request: Request) -> Result<Bytes, ApiError> {
    let bytes_max = context.settings.plugin_max_bytes;
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a component may have {bytes_max} bytes (millstream.plugin.max.bytes)"),
        )
    };
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<i64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let late = || {
        let message = "the component did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    };
    let arriving = async {
        let _place = PUSHES.acquire().await.expect("the semaphore is never closed");
        Bytes::from_request(request, &()).await
    };
    tokio::time::timeout(Duration::from_millis(PUSH_MS_MAX), arriving)
        .await
        .map_err(|_| late())?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => ApiError::invalid(rejection.body_text()),
        })
}

fn body(image: &Image, plugin: &Plugin) -> PluginBody {
    PluginBody {
        name: plugin.name.clone(),
        version: plugin.version.to_string(),
        sha256: plugin.sha256.clone(),
        world: plugin.world.to_string(),
        size: plugin.size,
        pushed_at_ms: plugin.pushed_at_ms,
        users: image
            .users_of_plugin(&plugin.name, plugin.version)
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

fn stats_body(stats: Stats) -> StatsBody {
    let ns_per_record = if stats.records == 0 {
        0.0
    } else {
        stats.nanoseconds as f64 / stats.records as f64
    };
    StatsBody {
        attached_to: stats.topic,
        version: stats.version.to_string(),
        calls: stats.calls,
        records: stats.records,
        errors: stats.errors,
        ns_per_record: (ns_per_record * 10.0).round() / 10.0,
        last_error: stats.last_error,
    }
}

fn parse_version(text: &str) -> Result<PluginVersion, ApiError> {
    PluginVersion::try_from(text.to_owned()).map_err(|error| ApiError::invalid(error.to_string()))
}

fn refuse(error: PluginError) -> ApiError {
    let message = error.to_string();
    match error {
        PluginError::Unknown(_) => ApiError::not_found(message),
        PluginError::InUse { users, .. } => ApiError::in_use(message, users),
        PluginError::VersionExists(_) => ApiError::new(StatusCode::CONFLICT, "version_exists", message),
        PluginError::Invalid(_) => ApiError::new(StatusCode::BAD_REQUEST, "invalid_plugin", message),
        PluginError::Storage(_) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", message),
    }
}

/// Components that arrive at a time: each is held in memory.
static PUSHES: Semaphore = Semaphore::const_new(4);
/// How long one may take to arrive, waiting for others included.
const PUSH_MS_MAX: u64 = 60_000;
