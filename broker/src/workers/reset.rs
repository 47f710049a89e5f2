//! Where a transform goes on: its offsets are set anew, or removed, by who deployed it.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::{Guarantee, Image, TRANSACTION_STATE, Transform, transform_group};
use millstream_core::ids::{PartitionIndex, TopicName};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::delete_groups::DeleteGroupsRequest;
use millstream_kafka::wire::Text;
use tokio::time::Instant;

use super::platform::{self, Place, Trouble, Who};
use super::report;
use super::task::Beside;
use crate::context::Context;
use crate::coordinators::places;
use crate::handlers::among;

/// Where a transform is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    /// At the first record that there is.
    Earliest,
    /// Behind the last one.
    Latest,
    /// At the first record that is not older than this, in milliseconds since 1970.
    Time(i64),
    /// At this offset, or the nearest one that there is.
    Offset(i64),
    /// Where the release began that a rollback takes back: on partitions that it has run on.
    UpgradePoint,
}

/// Why offsets were not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// Whoever runs it would write its own offsets.
    #[error("transform '{0}' runs: pause it first")]
    NotPaused(String),
    /// It cannot be done now.
    #[error("the offsets cannot be set now: {0}")]
    Unavailable(String),
}

impl From<Trouble> for ResetError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(trouble.reason())
    }
}

/// Says where every partition would go on, and, unless it is `dry_run`, has it go on there. Whoever still runs one is fenced
/// first.
///
/// # Errors
/// The transform is not paused, or the cluster cannot do it now; some partitions may be set.
pub async fn reset(
    context: &Arc<Context>,
    transform: &Transform,
    to: ResetTo,
    dry_run: bool,
) -> Result<Vec<(String, i32, i64)>, ResetError> {
    if !transform.paused && !dry_run {
        return Err(ResetError::NotPaused(transform.spec.name.clone()));
    }
    platform::prepare(context, transform.spec.guarantee).await?;
    if !dry_run {
        ended(context, transform).await?;
    }
    let image = context.controller.image();
    let mut plan = Vec::new();
    for (topic, partition) in partitions(&image, transform) {
        let who = super::who(transform, &topic, partition);
        if !dry_run {
            who.init(context).await?;
        }
        if let Some(offset) = target(context, transform, &who, to).await? {
            plan.push((who, offset));
        }
    }
    let mut done = Vec::with_capacity(plan.len());
    for (who, offset) in plan {
        if !dry_run {
            let place = Place {
                offset,
                metadata: String::new(),
            };
            who.commit_at_once(context, &place).await?;
        }
        done.push((who.topic.to_string(), who.partition, offset));
    }
    Ok(done)
}

/// Sees to it that whoever still runs a transform that is paused or deleted commits nothing any more.
///
/// # Errors
/// The cluster cannot do it now.
pub async fn fence(context: &Arc<Context>, transform: &Transform) -> Result<(), ResetError> {
    let image = context.controller.image();
    if transform.spec.guarantee != Guarantee::ExactlyOnce {
        return ended(context, transform).await;
    }
    if image.topic(TRANSACTION_STATE).is_none() {
        return Ok(());
    }
    for (topic, partition) in partitions(&image, transform) {
        super::who(transform, &topic, partition).init(context).await?;
    }
    Ok(())
}

/// Waits until no broker that serves runs anything of a transform any more that could not be fenced: without transactions,
/// what is under way would be committed over offsets that are set anew.
async fn ended(context: &Arc<Context>, transform: &Transform) -> Result<(), ResetError> {
    if transform.spec.guarantee == Guarantee::ExactlyOnce {
        return Ok(());
    }
    let deadline = Instant::now() + END_WAIT;
    loop {
        let reason = match report::runs(context, transform.id).await {
            Ok(false) => return Ok(()),
            Ok(true) => "some of it still runs".to_owned(),
            Err(reason) => reason,
        };
        if Instant::now() > deadline {
            return Err(ResetError::Unavailable(reason));
        }
        tokio::time::sleep(END_LOOK).await;
    }
}

/// All partitions of the sources.
fn partitions(image: &Image, transform: &Transform) -> Vec<(TopicName, PartitionIndex)> {
    let sources = transform.spec.sources.iter();
    let all = sources.filter_map(|name| image.topic(name)).flat_map(|topic| {
        let count = i32::try_from(image.partitions(topic).len()).unwrap_or(i32::MAX);
        (0..count).map(|index| (topic.name.clone(), PartitionIndex(index)))
    });
    all.collect()
}

/// Where a partition would go on; none where it is to stay as it is.
async fn target(
    context: &Arc<Context>,
    transform: &Transform,
    who: &Who,
    to: ResetTo,
) -> Result<Option<i64>, Trouble> {
    let first = who.offset_of(context, EARLIEST).await?;
    let end = who.offset_of(context, LATEST).await?;
    Ok(match to {
        ResetTo::Earliest => Some(first),
        ResetTo::Latest => Some(end),
        ResetTo::Time(time) => match who.offset_of(context, time.max(0)).await? {
            // Nothing is as young as that.
            -1 => Some(end),
            found => Some(found),
        },
        ResetTo::Offset(offset) => Some(offset.clamp(first, end.max(first))),
        ResetTo::UpgradePoint => {
            let known = who.committed(context).await?;
            let beside = known.as_ref().and_then(Beside::of);
            // A partition that the release has committed nothing on is where the one before left it.
            let canary = transform.canary.as_ref().map(|canary| &canary.release);
            let taken_back = canary.unwrap_or(&transform.current).generation;
            let begun = beside.filter(|beside| beside.generation == taken_back);
            begun.map(|beside| beside.from.max(first))
        }
    })
}

/// Forgets the offsets of a transform of this name.
///
/// # Errors
/// The cluster cannot do it now.
pub async fn delete_offsets(context: &Arc<Context>, name: &str) -> Result<(), String> {
    let group = transform_group(name);
    let image = context.controller.image();
    let topic = millstream_core::cluster::CONSUMER_OFFSETS;
    if image.topic(topic).is_none() {
        return Ok(());
    }
    let coordinator = places::coordinator_of(&image, topic, &group);
    let coordinator = coordinator.ok_or("nobody keeps its offsets at the moment")?;
    let request = DeleteGroupsRequest {
        groups_names: vec![Text::from(group)],
        ..Default::default()
    };
    let answer = among::ask_any(context, coordinator, DELETE_GROUPS_VERSION, request).await?;
    for result in answer.results {
        match ErrorCode::from_i16(result.error_code) {
            ErrorCode::None | ErrorCode::GroupIdNotFound => {}
            code => return Err(code.to_string()),
        }
    }
    Ok(())
}

/// Kafka's times for the first offset of a log, and for the one behind the last.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const DELETE_GROUPS_VERSION: i16 = 2;
/// How long partitions may take to end.
const END_WAIT: Duration = Duration::from_secs(9);
const END_LOOK: Duration = Duration::from_millis(10);
