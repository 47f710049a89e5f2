//! What is asked of transforms and told of them, as JSON. Its keys are those of a transform's specification.

use std::sync::Arc;

use millstream_core::cluster::{
    Canary, Guarantee, Image, PluginLimits, Release, Start, Transform, TransformSpec,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::workers::report::{self, PartitionReport, WorkerReport};

/// A transform that is to be.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeployBody {
    /// Its name, made as the names of plugins are.
    pub name: String,
    /// The plugin, with a version or the newest one.
    #[schema(example = "route@1.0.0")]
    pub plugin: String,
    /// Configuration that the plugin gets.
    #[serde(default)]
    pub config: String,
    /// Topics and views that it reads.
    pub sources: Vec<String>,
    /// Topics that it writes.
    pub sinks: Vec<SinkBody>,
    /// Workers at most; without it, as many as the sources have partitions, and four at most.
    pub workers: Option<u32>,
    /// `exactly-once` or `at-least-once`.
    #[serde(default)]
    #[schema(value_type = String, example = "exactly-once")]
    pub guarantee: Guarantee,
    /// Longest time between two commits, in milliseconds; 100 without it.
    pub commit_interval_ms: Option<u32>,
    /// Bytes read after which there is a commit; 1 MiB without it.
    pub commit_bytes: Option<u32>,
    /// Where it begins in partitions that it has no offset for: `earliest` or `latest`.
    #[serde(default)]
    #[schema(value_type = String, example = "earliest")]
    pub start: Start,
    /// What happens to records that the plugin fails on: `fail`, `skip` or `dead-letter:TOPIC`.
    #[schema(example = "fail")]
    pub on_error: Option<String>,
    /// Limits that replace those that the plugin was pushed with.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub limits: PluginLimits,
    /// Whether topics that it writes to are made, with as many partitions and replicas as the first source, where there are none.
    #[serde(default)]
    pub create_sinks: bool,
}

/// A topic that a transform writes to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SinkBody {
    /// What the plugin calls it; without it, as the topic is called.
    pub name: Option<String>,
    /// The topic.
    pub topic: String,
}

/// How many workers a transform may have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScaleBody {
    /// Workers at most.
    pub workers: u32,
}

/// What a transform is to run from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpgradeBody {
    /// The plugin, with a version or the newest one.
    pub plugin: String,
    /// Its configuration; without it, that of now.
    pub config: Option<String>,
    /// On some of the partitions first.
    pub canary: Option<TrialBody>,
    /// Where it begins, in all partitions: `earliest`, `latest`, an offset, or `@` and milliseconds since 1970; without it,
    /// it goes on where the release of now is.
    pub from: Option<String>,
}

/// How an upgrade is tried.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrialBody {
    /// Share of the partitions that run it, 1 to 99.
    pub percent: u8,
    /// Errors among a thousand records from which on it is taken back; 10 without it.
    #[serde(default = "errors_permille_max")]
    pub errors_permille_max: u16,
    /// How long it must do well until it runs everywhere, in milliseconds; a minute without it.
    #[serde(default = "promote_after_ms")]
    pub promote_after_ms: u64,
}

/// Which canary is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PromoteBody {
    /// Its generation; without it, whichever is tried now.
    pub generation: Option<u64>,
}

/// What is to be taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RollbackBody {
    /// The generation of what runs now; without it, whatever runs.
    pub generation: Option<u64>,
    /// Whether it goes on where the release began that is taken back: its records are written again.
    #[serde(default)]
    pub to_upgrade_point: bool,
}

/// Where a transform is to go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResetBody {
    /// `earliest`, `latest`, `upgrade-point`, an offset, or `@` and milliseconds since 1970.
    #[schema(example = "earliest")]
    pub to: String,
}

/// Whether something is tried only.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    /// Answers as if it were done, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What stays of a transform that goes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[into_params(parameter_in = Query)]
pub struct Keeping {
    /// Keeps its offsets, for one that is deployed later under the same name.
    #[serde(default)]
    pub keep_offsets: bool,
}

/// A transform.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TransformBody {
    name: String,
    id: String,
    /// Name and version of the plugin.
    plugin: String,
    /// Version of the cluster's image that deployed what runs.
    generation: u64,
    sources: Vec<String>,
    sinks: Vec<SinkBody>,
    workers: u32,
    #[schema(value_type = String)]
    guarantee: Guarantee,
    paused: bool,
    /// Name and version of the plugin that is on trial.
    canary: Option<String>,
    /// Why the last upgrade was taken back by itself, if it was.
    rolled_back: Option<String>,
    /// Partitions of the sources.
    partitions: usize,
    /// Those of them that a broker runs.
    assigned: usize,
}

/// A transform with all there is to know.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DetailBody {
    name: String,
    id: String,
    /// As it was deployed; workers may have changed since.
    #[schema(value_type = Object)]
    spec: TransformSpec,
    current: ReleaseBody,
    /// What ran before the last upgrade.
    previous: Option<ReleaseBody>,
    /// What is on trial.
    canary: Option<CanaryBody>,
    paused: bool,
    /// Why the last upgrade was taken back by itself, if it was.
    rolled_back: Option<String>,
    /// What its workers have to do.
    workers: Vec<WorkerReport>,
    /// Every partition of the sources.
    partitions: Vec<PartitionReport>,
}

/// A plugin with its configuration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseBody {
    /// Name and version.
    plugin: String,
    config: String,
    /// Version of the cluster's image that deployed it.
    generation: u64,
    /// When that was, in milliseconds since 1970.
    deployed_at_ms: i64,
}

/// A release on trial.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CanaryBody {
    release: ReleaseBody,
    trial: TrialBody,
}

/// What became of a change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ChangedBody {
    /// Whether it was not so before.
    pub changed: bool,
    pub transform: TransformBody,
    /// Partitions that go on somewhere else.
    pub moved: Vec<MovedBody>,
}

/// Where a partition goes on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MovedBody {
    pub topic: String,
    pub partition: i32,
    /// The offset that was committed before, if one was.
    pub before: Option<i64>,
    pub after: i64,
}

impl TransformBody {
    /// What the image tells of it.
    pub fn of(image: &Image, transform: &Transform) -> Self {
        let spec = &transform.spec;
        Self {
            name: spec.name.clone(),
            id: transform.id.to_string(),
            plugin: transform.current.reference().to_string(),
            generation: transform.current.generation,
            sources: spec.sources.iter().map(ToString::to_string).collect(),
            sinks: spec.sinks.iter().map(SinkBody::of).collect(),
            workers: spec.workers,
            guarantee: spec.guarantee,
            paused: transform.paused,
            canary: transform
                .canary
                .as_ref()
                .map(|canary| canary.release.reference().to_string()),
            rolled_back: transform.rolled_back.clone(),
            partitions: source_partitions(image, spec),
            assigned: transform.assignment.len(),
        }
    }
}

impl DetailBody {
    /// A transform and how its partitions are.
    pub fn of(transform: &Arc<Transform>, partitions: Vec<PartitionReport>) -> Self {
        Self {
            name: transform.spec.name.clone(),
            id: transform.id.to_string(),
            spec: transform.spec.clone(),
            current: ReleaseBody::of(&transform.current),
            previous: transform.previous.as_ref().map(ReleaseBody::of),
            canary: transform.canary.as_ref().map(CanaryBody::of),
            paused: transform.paused,
            rolled_back: transform.rolled_back.clone(),
            workers: report::workers(&partitions),
            partitions,
        }
    }
}

impl SinkBody {
    fn of(sink: &millstream_core::cluster::TransformSink) -> Self {
        Self {
            name: Some(sink.name.clone()),
            topic: sink.topic.to_string(),
        }
    }
}

impl ReleaseBody {
    fn of(release: &Release) -> Self {
        Self {
            plugin: release.reference().to_string(),
            config: release.config.clone(),
            generation: release.generation,
            deployed_at_ms: release.deployed_at_ms,
        }
    }
}

impl CanaryBody {
    fn of(canary: &Canary) -> Self {
        Self {
            release: ReleaseBody::of(&canary.release),
            trial: TrialBody {
                percent: canary.trial.percent,
                errors_permille_max: canary.trial.errors_permille_max,
                promote_after_ms: canary.trial.promote_after_ms,
            },
        }
    }
}

/// How many partitions there are to read.
pub fn source_partitions(image: &Image, spec: &TransformSpec) -> usize {
    let sources = spec.sources.iter().filter_map(|name| image.topic(name));
    sources.map(|topic| image.partitions(topic).len()).sum()
}

fn errors_permille_max() -> u16 {
    ERRORS_PERMILLE_MAX
}

fn promote_after_ms() -> u64 {
    PROMOTE_AFTER_MS
}

/// Errors among a thousand records that a canary may have, where nothing else is said.
const ERRORS_PERMILLE_MAX: u16 = 10;
/// How long a canary has to do well, where nothing else is said.
const PROMOTE_AFTER_MS: u64 = 60_000;
