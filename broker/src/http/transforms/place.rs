//! Where transforms go on: reset, rollback, and how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use bytes::Bytes;
use millstream_core::cluster::{CONSUMER_OFFSETS, Outcome, Transform, TransformChange};
use millstream_kafka::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use millstream_kafka::wire::Text;
use tokio::time::Instant;

use super::body::{ChangedBody, DryRun, MovedBody, ResetBody, RollbackBody};
use super::refuse;
use crate::context::Context;
use crate::coordinators::places;
use crate::handlers::among;
use crate::http::error::{ApiError, ErrorBody};
use crate::workers::report::PartitionReport;
use crate::workers::reset::{self, ResetTo};

/// Has a paused transform go on somewhere else.
#[utoipa::path(post, path = "/v1/transforms/{name}/reset", params(("name" = String, Path), DryRun),
    request_body = ResetBody,
    responses((status = 200, description = "Where each partition goes on, or would", body = Vec<MovedBody>),
        (status = 400, description = "That is no place", body = ErrorBody),
        (status = 404, description = "There is no such transform", body = ErrorBody),
        (status = 409, description = "It is not paused", body = ErrorBody),
        (status = 503, description = "The cluster cannot do it now", body = ErrorBody)))]
pub async fn reset(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    dry_run: Result<Query<DryRun>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Vec<MovedBody>>, ApiError> {
    let Query(DryRun { dry_run }) = dry_run.map_err(refuse::query)?;
    let asked: ResetBody = refuse::read(body)?;
    let to = parse(&asked.to)?;
    let transform = super::find(&context, &name)?;
    let moved = tokio::spawn(async move { move_to(&context, &transform, to, dry_run).await });
    let moved = moved
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?;
    moved.map(Json)
}

/// Takes the canary back, or else the last upgrade.
#[utoipa::path(post, path = "/v1/transforms/{name}/rollback", params(("name" = String, Path)),
    request_body = RollbackBody,
    responses((status = 200, description = "It is taken back", body = ChangedBody),
        (status = 404, description = "There is no such transform", body = ErrorBody),
        (status = 409, description = "There is nothing to take back", body = ErrorBody),
        (status = 503, description = "The cluster cannot decide now", body = ErrorBody)))]
pub async fn rollback(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChangedBody>, ApiError> {
    let asked: RollbackBody = refuse::read(body)?;
    let transform = super::find(&context, &name)?;
    let change = TransformChange::Rollback {
        generation: asked.generation,
        reason: None,
    };
    super::check_change(&context, &name, &change)?;
    match asked.to_upgrade_point {
        true => change_and_move(&context, &transform, change, ResetTo::UpgradePoint, false).await,
        false => super::change(&context, &name, change, false).await,
    }
    .map(Json)
}

/// Changes a transform while nothing of it runs, and has it go on somewhere else. It is done to its end although the
/// client may have gone: nobody else would have the transform run again.
///
/// # Errors
/// The change is refused, or offsets cannot be set; then it runs on as it did.
pub async fn change_and_move(
    context: &Arc<Context>,
    transform: &Arc<Transform>,
    change: TransformChange,
    to: ResetTo,
    dry_run: bool,
) -> Result<ChangedBody, ApiError> {
    let (context, transform) = (context.clone(), transform.clone());
    let name = transform.spec.name.clone();
    if dry_run {
        let moved = move_to(&context, &transform, to, true).await?;
        let changed = super::change(&context, &name, change, true).await?;
        return Ok(ChangedBody { moved, ..changed });
    }
    let changing = tokio::spawn(async move {
        let changing = async {
            if !transform.paused {
                super::change(&context, &name, TransformChange::Pause, false).await?;
            }
            let paused = super::find(&context, &name)?;
            let (image, outcome) = super::check_change(&context, &name, &change)?;
            let takes_back = matches!(change, TransformChange::Rollback { .. });
            if takes_back && matches!(outcome, Outcome::Unchanged) {
                // Another release is meant: this one is not to do its work again.
                return super::changed(&image, &name, &outcome);
            }
            let moved = move_to(&context, &paused, to, false).await?;
            let changed = super::change(&context, &name, change, false).await?;
            Ok::<_, ApiError>(ChangedBody { moved, ..changed })
        };
        let changed = changing.await;
        if transform.paused {
            return changed;
        }
        // Also where it is not known what became of the pause.
        let resumed = resume(&context, &name).await;
        let (changed, resumed) = (changed?, resumed?);
        Ok(ChangedBody {
            transform: resumed.transform,
            ..changed
        })
    });
    changing
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
}

/// Has a transform run again, for which the cluster may need a while.
async fn resume(context: &Arc<Context>, name: &str) -> Result<ChangedBody, ApiError> {
    let deadline = Instant::now() + RESUME_WAIT;
    loop {
        match super::change(context, name, TransformChange::Resume, false).await {
            Err(error) if error.is_passing() && Instant::now() < deadline => {
                tokio::time::sleep(RESUME_PAUSE).await;
            }
            Err(error) if error.is_passing() => {
                let message =
                    format!("transform '{name}' is paused and cannot be resumed now: resume it later");
                return Err(ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    message,
                ));
            }
            done => return done,
        }
    }
}

async fn move_to(
    context: &Arc<Context>,
    transform: &Transform,
    to: ResetTo,
    dry_run: bool,
) -> Result<Vec<MovedBody>, ApiError> {
    let before = committed(context, transform).await.unwrap_or_default();
    let moved = reset::reset(context, transform, to, dry_run)
        .await
        .map_err(refuse::reset)?;
    let moved = moved.into_iter().map(|(topic, partition, after)| MovedBody {
        before: before.get(&(topic.clone(), partition)).copied(),
        topic,
        partition,
        after,
    });
    Ok(moved.collect())
}

/// Fills in how far partitions are that their brokers do not tell: nothing of them runs.
pub async fn fill_in(context: &Arc<Context>, transform: &Transform, reports: &mut [PartitionReport]) {
    if reports.iter().all(|report| report.committed >= 0) {
        return;
    }
    let known = match committed(context, transform).await {
        Ok(known) => known,
        Err(reason) => return tracing::debug!(reason, "it is not known how far a transform is"),
    };
    for report in reports.iter_mut().filter(|report| report.committed < 0) {
        let Some(committed) = known.get(&(report.topic.clone(), report.partition)) else {
            continue;
        };
        report.committed = *committed;
        if report.end >= 0 {
            report.lag = (report.end - committed).max(0);
        }
    }
}

/// The offsets that a transform has committed, by source and partition.
async fn committed(
    context: &Arc<Context>,
    transform: &Transform,
) -> Result<BTreeMap<(String, i32), i64>, String> {
    let group = transform.group();
    let image = context.controller.image();
    let Some(coordinator) = places::coordinator_of(&image, CONSUMER_OFFSETS, &group) else {
        return Ok(BTreeMap::new());
    };
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Text::from(group),
            topics: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = among::ask_any(context, coordinator, OFFSET_FETCH_VERSION, request).await?;
    let topics = answer.groups.into_iter().flat_map(|group| group.topics);
    let offsets = topics.flat_map(|topic| {
        let known = topic
            .partitions
            .into_iter()
            .filter(|known| known.committed_offset >= 0);
        known.map(move |known| {
            (
                (topic.name.to_string(), known.partition_index),
                known.committed_offset,
            )
        })
    });
    Ok(offsets.collect())
}

/// Reads where to go on.
///
/// # Errors
/// That is no place.
pub fn parse(text: &str) -> Result<ResetTo, ApiError> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
    let place = match text {
        "earliest" => Some(ResetTo::Earliest),
        "latest" => Some(ResetTo::Latest),
        "upgrade-point" => Some(ResetTo::UpgradePoint),
        _ => match text.strip_prefix('@') {
            Some(ms) => number(ms).map(ResetTo::Time),
            None => number(text).map(ResetTo::Offset),
        },
    };
    place.ok_or_else(|| {
        let told = "is none of: earliest, latest, upgrade-point, an offset, @MILLISECONDS";
        refuse::invalid(format!("'{text}' {told}"))
    })
}

/// How long it is tried to have a transform run again.
const RESUME_WAIT: Duration = Duration::from_secs(30);
const RESUME_PAUSE: Duration = Duration::from_millis(200);
/// A version that asks for groups one by one, and names topics.
const OFFSET_FETCH_VERSION: i16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let read = ["earliest", "latest", "upgrade-point", "42", "@1000"].map(|text| parse(text).unwrap());
        let places = [
            ResetTo::Earliest,
            ResetTo::Latest,
            ResetTo::UpgradePoint,
            ResetTo::Offset(42),
            ResetTo::Time(1000),
        ];
        assert_eq!(read, places);
        for wrong in ["", "-1", "@-1", "@", "soon", "99999999999999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
