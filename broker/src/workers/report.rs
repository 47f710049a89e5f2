//! How a transform is, gathered from all brokers that run it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::cluster::{Assigned, Transform};
use millstream_core::ids::BrokerId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use utoipa::ToSchema;
use uuid::Uuid;

use super::tally::{Face, LastError, State};
use crate::context::Context;
use crate::peer::CallKind;
use crate::plugins::LogLine;
use crate::plugins::worker::merge;

/// How a partition of a transform is. Counts are since the partition was begun on its broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionReport {
    /// The source.
    pub topic: String,
    /// Which of its partitions.
    pub partition: i32,
    /// The broker that runs it.
    pub broker: i32,
    /// The worker that it belongs to.
    pub worker: u32,
    /// What it does.
    pub state: State,
    /// Why, if there is something to say.
    pub reason: Option<String>,
    /// Name and version of the plugin.
    pub plugin: String,
    /// Whether that is on trial.
    pub canary: bool,
    /// The offset behind the last record whose output is committed; -1 if none is.
    pub committed: i64,
    /// The end of the partition for readers of committed records; -1 if it is not known.
    pub end: i64,
    /// Records that are not done yet; -1 if it is not known.
    pub lag: i64,
    /// Records read.
    pub records_in: u64,
    /// Records written to sinks.
    pub records_out: u64,
    /// Records that nothing was made of.
    pub dropped: u64,
    /// Records written to the topic of dead letters.
    pub dead_lettered: u64,
    /// Records that the plugin failed on.
    pub errors: u64,
    /// Mean time in the plugin, in nanoseconds.
    pub ns_per_record: f64,
    /// Time in the plugin as a part of all time, in thousandths of a core, of late; null if it is not known yet.
    pub cost: Option<u32>,
    /// Commits.
    pub commits: u64,
    /// The last record that the plugin failed on.
    pub last_error: Option<LastError>,
}

/// What a worker of a transform has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WorkerReport {
    /// The worker.
    pub worker: u32,
    /// The broker that it is on.
    pub broker: i32,
    /// How many partitions it has.
    pub partitions: usize,
    /// Time in the plugin as a part of all time, in thousandths of a core, of the partitions of which it is known; null if it
    /// is known of none.
    pub cost: Option<u32>,
}

/// What the workers of a transform have to do, of how its partitions are.
pub fn workers(reports: &[PartitionReport]) -> Vec<WorkerReport> {
    let mut workers: BTreeMap<u32, WorkerReport> = BTreeMap::new();
    // No broker runs what has none.
    for report in reports.iter().filter(|report| report.broker >= 0) {
        let worker = workers.entry(report.worker).or_insert(WorkerReport {
            worker: report.worker,
            broker: report.broker,
            partitions: 0,
            cost: None,
        });
        worker.partitions += 1;
        if let Some(cost) = report.cost {
            worker.cost = Some(worker.cost.unwrap_or(0).saturating_add(cost));
        }
    }
    workers.into_values().collect()
}

/// What brokers ask of each other about transforms.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Asked {
    /// How the partitions of a transform are that the other one runs.
    Reports(Uuid),
    /// What a plugin logged there.
    Log(String),
    /// Whether anything of a transform runs there, if only to its end.
    Runs(Uuid),
}

/// How every partition is, in the order of the assignment, then what nobody runs.
pub async fn reports(context: &Arc<Context>, transform: &Transform) -> Vec<PartitionReport> {
    let brokers: BTreeSet<BrokerId> = transform.assignment.iter().map(|a| a.broker).collect();
    let mut asked = JoinSet::new();
    for broker in brokers {
        let (context, id) = (context.clone(), transform.id);
        asked.spawn(async move { (broker, of_broker(&context, broker, id).await) });
    }
    let mut found: BTreeMap<(String, i32), PartitionReport> = BTreeMap::new();
    let mut silent: BTreeMap<BrokerId, String> = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok((_, Ok(reports))) => {
                let keyed = reports.into_iter().map(|r| ((r.topic.clone(), r.partition), r));
                found.extend(keyed);
            }
            Ok((broker, Err(reason))) => {
                silent.insert(broker, reason);
            }
            Err(error) => tracing::warn!(%error, "asking for reports was interrupted"),
        }
    }
    let assigned = transform.assignment.iter().map(|assigned| {
        let key = (assigned.topic.to_string(), assigned.partition.0);
        found.remove(&key).unwrap_or_else(|| {
            let reason = silent.get(&assigned.broker).cloned();
            let reason = reason.unwrap_or_else(|| "its broker is about to begin".to_owned());
            let state = match silent.contains_key(&assigned.broker) {
                true => State::Unassigned,
                false => State::Starting,
            };
            let face = Face {
                state,
                reason: Some(reason),
                ..Face::default()
            };
            report(transform, assigned, face, None)
        })
    });
    let mut all: Vec<PartitionReport> = assigned.collect();
    all.extend(nobody_runs(context, transform));
    all
}

/// Partitions that are in no assignment: no broker could take them.
fn nobody_runs(context: &Context, transform: &Transform) -> Vec<PartitionReport> {
    let image = context.controller.image();
    let mut missing = Vec::new();
    for topic in &transform.spec.sources {
        let count = image.topic(topic).map_or(0, |t| image.partitions(t).len());
        for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
            let runs = |a: &&Assigned| a.topic == *topic && a.partition.0 == partition;
            if transform.assignment.iter().find(runs).is_none() {
                let assigned = Assigned {
                    topic: topic.clone(),
                    partition: millstream_core::ids::PartitionIndex(partition),
                    broker: BrokerId(-1),
                    worker: 0,
                    canary: false,
                    since: 0,
                    cost: 0,
                };
                let face = Face {
                    state: State::Unassigned,
                    reason: Some("no broker can run it".to_owned()),
                    ..Face::default()
                };
                missing.push(report(transform, &assigned, face, None));
            }
        }
    }
    missing
}

async fn of_broker(
    context: &Arc<Context>,
    broker: BrokerId,
    id: Uuid,
) -> Result<Vec<PartitionReport>, String> {
    if broker == context.node {
        return Ok(own(context, id));
    }
    let answer = ask(context, broker, &Asked::Reports(id)).await?;
    serde_json::from_slice(&answer).map_err(|error| error.to_string())
}

async fn ask(context: &Context, broker: BrokerId, asked: &Asked) -> Result<Bytes, String> {
    let peers = context.peers.as_ref().ok_or("this broker is alone")?;
    let message = serde_json::to_vec(asked).map_err(|error| error.to_string())?;
    let answer = peers.call(broker, CallKind::Workers, message.into(), ANSWER_WAIT);
    let answer = answer.await;
    answer.map_err(|error| format!("broker {} does not answer: {error}", broker.0))
}

/// Answers another broker.
///
/// # Errors
/// The message cannot be read.
pub fn serve(context: &Arc<Context>, message: &Bytes) -> Result<Bytes, String> {
    let asked = serde_json::from_slice(message).map_err(|error| error.to_string())?;
    let answer = match asked {
        Asked::Reports(id) => serde_json::to_vec(&own(context, id)),
        Asked::Log(plugin) => serde_json::to_vec(&context.plugins.log(&plugin)),
        Asked::Runs(id) => serde_json::to_vec(&context.workers.runs(id)),
    };
    answer.map(Bytes::from).map_err(|error| error.to_string())
}

/// How the partitions are that this broker runs.
fn own(context: &Context, id: Uuid) -> Vec<PartitionReport> {
    let image = context.controller.image();
    let Some(transform) = image.transforms().find(|transform| transform.id == id) else {
        return Vec::new();
    };
    of_this_broker(context, transform)
}

/// How the partitions of a transform are that this broker runs.
pub fn of_this_broker(context: &Context, transform: &Transform) -> Vec<PartitionReport> {
    let own = super::mine(context, transform).map(|assigned| {
        let face = context
            .workers
            .look(transform.id, &assigned.topic, assigned.partition);
        let face = match face {
            _ if transform.paused => Face {
                state: State::Paused,
                ..face.unwrap_or_default()
            },
            Some(face) => face,
            None => Face::default(),
        };
        let topic = context.topics.find(&assigned.topic, Uuid::nil()).ok();
        let partition = topic.and_then(|topic| topic.partition(assigned.partition.0).cloned());
        let partition = partition.filter(|partition| partition.is_leader());
        let end = partition.map(|partition| partition.watermarks().last_stable.0);
        report(transform, assigned, face, end)
    });
    own.collect()
}

fn report(transform: &Transform, assigned: &Assigned, face: Face, end: Option<i64>) -> PartitionReport {
    let release = transform.release(assigned);
    let tally = face.tally;
    let committed = face.committed.unwrap_or(UNKNOWN);
    let end = end.or(face.end).unwrap_or(UNKNOWN);
    let lag = match (face.committed.or(face.from), end) {
        (None, _) | (_, UNKNOWN) => UNKNOWN,
        (Some(done), end) => (end - done).max(0),
    };
    let mean = tally.nanoseconds as f64 / tally.records_in.max(1) as f64;
    PartitionReport {
        topic: assigned.topic.to_string(),
        partition: assigned.partition.0,
        broker: assigned.broker.0,
        worker: assigned.worker,
        state: face.state,
        reason: face.reason.or(face.waiting),
        plugin: release.reference().to_string(),
        canary: assigned.canary && transform.canary.is_some(),
        committed,
        end,
        lag,
        records_in: tally.records_in,
        records_out: tally.records_out,
        dropped: tally.dropped,
        dead_lettered: tally.dead_lettered,
        errors: tally.errors,
        ns_per_record: (mean * 10.0).round() / 10.0,
        cost: face.meter.thousandths(Instant::now()),
        commits: tally.commits,
        last_error: tally.last_error,
    }
}

/// Whether any broker that serves still runs something of a transform.
///
/// # Errors
/// One does not say.
pub async fn runs(context: &Arc<Context>, id: Uuid) -> Result<bool, String> {
    if context.workers.runs(id) {
        return Ok(true);
    }
    let image = context.controller.image();
    let serving = image.brokers().values().filter(|broker| !broker.fenced);
    let mut asked = JoinSet::new();
    for broker in serving.filter(|broker| broker.id != context.node) {
        let (context, broker) = (context.clone(), broker.id);
        asked.spawn(async move { ask(&context, broker, &Asked::Runs(id)).await });
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer.map_err(|error| error.to_string())??;
        if serde_json::from_slice(&answer).map_err(|error| error.to_string())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The last lines that a plugin logged, on all brokers that serve, oldest first.
pub async fn logs(context: &Arc<Context>, plugin: &str) -> Vec<LogLine> {
    let mut lines = context.plugins.log(plugin);
    let image = context.controller.image();
    let others = image
        .brokers()
        .values()
        .filter(|b| !b.fenced && b.id != context.node);
    let mut asked = JoinSet::new();
    for broker in others {
        let (context, id, plugin) = (context.clone(), broker.id, plugin.to_owned());
        asked.spawn(async move { ask(&context, id, &Asked::Log(plugin)).await });
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer
            .map_err(|error| error.to_string())
            .and_then(|answer| answer);
        let theirs = answer.and_then(|answer| {
            serde_json::from_slice::<Vec<LogLine>>(&answer).map_err(|error| error.to_string())
        });
        match theirs {
            Ok(theirs) => lines.extend(theirs),
            Err(reason) => tracing::debug!(reason, "a broker does not tell what a plugin logged"),
        }
    }
    merge(lines)
}

/// In place of an offset that is not known.
const UNKNOWN: i64 = -1;
/// How long another broker may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
