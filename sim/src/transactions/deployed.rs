//! The two transforms as the cluster's image has them: how they are deployed, how operators change them, and what must hold
//! of who is given what.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::cluster::{
    Command, Guarantee, Image, PluginLimits, PluginRef, PluginVersion, Start, Transform, TransformChange,
    TransformSink, TransformSpec, Trial, World,
};
use millstream_core::config::OnError;
use millstream_core::ids::{BrokerId, PartitionIndex, TopicName};
use millstream_core::mutation::{Mutation, is_on};
use millstream_storage::sim_disk::Random;

use super::job::{Job, Stage};

/// What a worker depends on: whatever of it changes, another one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    generation: u64,
    since: u64,
    worker: u32,
    is_canary: bool,
}

impl How {
    /// How a node is to run a job, if an image says that it is to.
    pub fn of(image: &Image, job: Job, node: u64) -> Option<Self> {
        let transform = image.transform(job.stage.name())?;
        if transform.paused && !is_on(Mutation::WorkWhilePaused) {
            return None;
        }
        let (topic, lane) = job.source();
        let is_it = |topic_of: &TopicName, partition| topic_of.as_str() == topic && partition == lane;
        let mut assignment = transform.assignment.iter();
        let assigned = assignment.find(|given| is_it(&given.topic, given.partition.0))?;
        let id = transform.transactional_id(topic, PartitionIndex(lane));
        assert_eq!(*id, *job.id(), "transactions are kept under this id");
        (assigned.broker == BrokerId(node as i32)).then(|| Self {
            generation: transform.release(assigned).generation,
            since: transform.since,
            worker: assigned.worker,
            is_canary: assigned.canary,
        })
    }
}

/// What the controller has to do until both transforms are deployed.
pub fn to_deploy(image: &Image, at_ms: i64) -> Option<Command> {
    for version in VERSIONS {
        let reference = PluginRef {
            name: PLUGIN.to_owned(),
            version: Some(version),
        };
        if image.plugin(&reference).is_none() {
            return Some(Command::RegisterPlugin {
                name: PLUGIN.to_owned(),
                version: Some(version),
                sha256: format!("{version}"),
                world: World::Transform,
                size: 1,
                limits: PluginLimits::default(),
                pushed_at_ms: at_ms,
            });
        }
    }
    let missing = |stage: &Stage| image.transform(stage.name()).is_none();
    let stage = Stage::ALL.into_iter().find(missing)?;
    let topic = |name: &str| name.try_into().expect("a name");
    let sink = TransformSink {
        name: "to".to_owned(),
        topic: topic(stage.sink()),
    };
    Some(Command::DeployTransform {
        spec: TransformSpec {
            name: stage.name().to_owned(),
            sources: vec![topic(stage.source())],
            sinks: vec![sink],
            workers: WORKERS_MAX as u32,
            guarantee: Guarantee::ExactlyOnce,
            commit_interval_ms: 100,
            commit_bytes: 1 << 10,
            start: Start::Earliest,
            on_error: OnError::Fail,
            limits: PluginLimits::default(),
        },
        plugin: plugin(0),
        config: String::new(),
        id: stage.id(),
        at_ms,
    })
}

/// What an operator, or a release on trial, wants of a transform. It may be refused.
pub fn wish(image: &Image, stage: Stage, random: &mut Random) -> TransformChange {
    let transform = image.transform(stage.name());
    let canary = transform
        .and_then(|transform| transform.canary.as_ref())
        .map(|canary| canary.release.generation);
    match (random.below(10), canary) {
        (0..3, _) => TransformChange::Pause,
        (3, _) => TransformChange::Resume,
        (4, _) => TransformChange::Scale {
            workers: 1 + random.below(WORKERS_MAX) as u32,
        },
        (5, Some(generation)) => TransformChange::Promote { generation },
        (6, Some(generation)) => TransformChange::Rollback {
            generation: Some(generation),
            reason: Some("too many records fail".to_owned()),
        },
        (5, None) => TransformChange::Rollback {
            generation: None,
            reason: None,
        },
        (8.., None) => TransformChange::Weigh {
            generation: transform.map_or(0, |transform| transform.current.generation),
            costs: costs(stage, random),
        },
        _ => TransformChange::Upgrade {
            plugin: plugin(random.below(VERSIONS.len() as u64) as usize),
            config: Some(random.below(3).to_string()),
            trial: (random.below(2) == 0).then_some(Trial {
                percent: 50,
                errors_permille_max: 10,
                promote_after_ms: 1000,
            }),
        },
    }
}

/// What partitions are said to cost, in thousandths of a core: some of them much.
fn costs(stage: Stage, random: &mut Random) -> BTreeMap<TopicName, Vec<u32>> {
    let topic = stage.source().try_into().expect("a name");
    let costs = stage.jobs().map(|_| 1 + random.below(10).pow(3) as u32);
    [(topic, costs.collect())].into()
}

/// Looks whether every partition of every transform is given to one worker, and every worker is on one broker that may work
/// and has its share: by number, as long as nobody has said what partitions cost.
pub fn check_assignment(image: &Image) -> Result<(), String> {
    for transform in image.transforms() {
        let given = |partition| {
            let assigned = transform.assignment.iter();
            assigned.filter(move |given| given.partition == partition).count()
        };
        let brokers = may_work(image);
        if let Some(stray) = transform.assignment.iter().find(|a| !brokers.contains(&a.broker)) {
            let what = format!("broker {} is not to work", stray.broker);
            return Err(told(image, transform, &what));
        }
        let wanted = usize::from(!brokers.is_empty());
        let source = transform.spec.sources.first().and_then(|name| image.topic(name));
        let partitions = source.map_or(0, |topic| topic.partitions.len());
        let odd = (0..partitions as i32).find(|index| given(PartitionIndex(*index)) != wanted);
        if let Some(index) = odd {
            return Err(told(
                image,
                transform,
                &format!("partition {index} is not one worker's"),
            ));
        }
        let mut workers: BTreeMap<u32, (BrokerId, usize)> = BTreeMap::new();
        for given in &transform.assignment {
            let (broker, size) = workers.entry(given.worker).or_insert((given.broker, 0));
            *size += 1;
            if *broker != given.broker {
                let what = format!("worker {} is on two brokers", given.worker);
                return Err(told(image, transform, &what));
            }
        }
        let sizes: BTreeSet<usize> = workers.values().map(|(_, size)| *size).collect();
        let are_weighed = transform.assignment.iter().any(|given| given.cost > 0);
        let is_even = are_weighed || sizes.last().unwrap_or(&0) - sizes.first().unwrap_or(&0) <= 1;
        if workers.len() != partitions.min(transform.spec.workers as usize) * wanted || !is_even {
            return Err(told(
                image,
                transform,
                "workers are too many, too few, or not even",
            ));
        }
    }
    Ok(())
}

/// Brokers in service that are not being emptied; all in service if there is no other.
fn may_work(image: &Image) -> BTreeSet<BrokerId> {
    let serving = image.brokers().values().filter(|broker| !broker.fenced);
    let staying = serving.clone().filter(|broker| !broker.draining);
    let staying: BTreeSet<_> = staying.map(|broker| broker.id).collect();
    match staying.is_empty() {
        true => serving.map(|broker| broker.id).collect(),
        false => staying,
    }
}

/// Tells how a transform is given out, and what of that is wrong.
pub fn told(image: &Image, transform: &Transform, what: &str) -> String {
    let (version, name) = (image.version(), &transform.spec.name);
    let workers = transform.spec.workers;
    let assigned = transform.assignment.iter();
    let assigned: Vec<_> = assigned
        .map(|a| format!("{}-{} on {} by {}", a.topic, a.partition.0, a.broker, a.worker))
        .collect();
    format!(
        "image {version} gives {} of {name}, with {workers} workers: {what}",
        assigned.join(", ")
    )
}

fn plugin(version: usize) -> PluginRef {
    PluginRef {
        name: PLUGIN.to_owned(),
        version: Some(VERSIONS[version]),
    }
}

/// What both transforms run.
const PLUGIN: &str = "pass";
/// Its versions.
const VERSIONS: [PluginVersion; 2] = [
    PluginVersion::FIRST,
    PluginVersion {
        major: 2,
        ..PluginVersion::FIRST
    },
];
/// Most workers that a transform is asked to have: more than there are partitions.
const WORKERS_MAX: u64 = 3;
