//! Stories of deployed transforms, and rules that hold of them whatever happens.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::scene::*;
use super::*;

/// Runs the plugin `p` with four workers.
pub fn deploy(transform: &str, n: u128, sources: &[&str], sinks: &[&str]) -> Command {
    let sink = |topic: &&str| TransformSink {
        name: (*topic).to_owned(),
        topic: name(topic),
    };
    Command::DeployTransform {
        spec: TransformSpec {
            name: transform.to_owned(),
            sources: sources.iter().map(|topic| name(topic)).collect(),
            sinks: sinks.iter().map(sink).collect(),
            workers: 4,
            guarantee: Guarantee::ExactlyOnce,
            commit_interval_ms: 100,
            commit_bytes: 1 << 20,
            start: Start::Earliest,
            on_error: OnError::Fail,
            limits: PluginLimits::default(),
        },
        plugin: PluginRef::parse("p").unwrap(),
        config: "{}".to_owned(),
        id: Uuid::from_u128(n),
        at_ms: 5,
    }
}

pub fn change(transform: &str, change: TransformChange) -> Command {
    Command::ChangeTransform {
        name: transform.to_owned(),
        change,
        at_ms: 6,
    }
}

pub fn delete(transform: &str) -> Command {
    Command::DeleteTransform {
        name: transform.to_owned(),
    }
}

pub fn upgrade(plugin: &str, config: Option<&str>, percent: Option<u8>) -> TransformChange {
    TransformChange::Upgrade {
        plugin: PluginRef::parse(plugin).unwrap(),
        config: config.map(str::to_owned),
        trial: percent.map(|percent| Trial {
            percent,
            errors_permille_max: 10,
            promote_after_ms: 60_000,
        }),
    }
}

pub fn promote(generation: u64) -> TransformChange {
    TransformChange::Promote { generation }
}

pub fn roll_back(generation: Option<u64>) -> TransformChange {
    TransformChange::Rollback {
        generation,
        reason: generation.map(|_| "it fails".to_owned()),
    }
}

/// Three brokers that lead two partitions of `in` each, the topic `out`, two versions of the plugin `p`.
pub fn ready() -> Image {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    let replicas = [[1, 2, 3], [2, 3, 1], [3, 1, 2]];
    for (topic, n, partitions) in [("in", 1, 6), ("out", 2, 3)] {
        let mut command = create(topic, n, 0, &[]);
        if let Command::CreateTopic { partitions: p, .. } = &mut command {
            *p = (0..partitions).map(|n| ids(&replicas[n % 3])).collect();
        }
        applied(&mut image, &command);
    }
    for sha256 in ["aa", "bb"] {
        applied(&mut image, &push("p", sha256, World::Transform));
    }
    image
}

/// As [`ready`], with the transform `t` deployed from `in` to `out`.
fn deployed() -> Image {
    let mut image = ready();
    applied(&mut image, &deploy("t", 1, &["in"], &["out"]));
    image
}

fn transform(image: &Image) -> &Transform {
    image.transform("t").unwrap()
}

/// Applies a change of `t`.
#[track_caller]
fn changed(image: &mut Image, to: TransformChange) -> Transform {
    match applied(image, &change("t", to)) {
        Outcome::Transform(transform) => {
            assert_eq!(
                image.transform("t"),
                Some(&transform),
                "the outcome is what is there"
            );
            Transform::clone(&transform)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unchanged(image: &mut Image, to: TransformChange) {
    let before = image.encode();
    assert_eq!(apply(image, &change("t", to)), Ok(Outcome::Unchanged));
    assert_eq!(image.encode(), before);
}

fn brokers(image: &Image) -> Vec<i32> {
    let assignment = &transform(image).assignment;
    assignment.iter().map(|assigned| assigned.broker.0).collect()
}

fn on_trial(transform: &Transform) -> usize {
    transform.assignment.iter().filter(|a| a.canary).count()
}

#[test]
fn a_transform_comes_and_goes() {
    let mut image = ready();
    let version_before = image.version();
    let Outcome::Transform(made) = applied(&mut image, &deploy("t", 1, &["in"], &["out"])) else {
        panic!("a transform was deployed");
    };
    assert_eq!(image.transform("t"), Some(&made));
    assert_eq!(made.current.reference().to_string(), "p@0.2.0");
    assert_eq!(made.current.generation, version_before + 1);
    assert_eq!((made.since, made.current.deployed_at_ms), (version_before + 1, 5));
    assert_eq!(made.group(), "__transform.t");
    assert_eq!(made.assignment.len(), 6);
    let read = Image::decode(&image.encode()).unwrap();
    assert_eq!(read, image);
    let gone = applied(&mut image, &delete("t"));
    assert_eq!(gone, Outcome::TransformDeleted(made));
    assert_eq!(image.transforms().len(), 0);
}

fn all_in_sync(image: &Image, topic: u128, n: i32) -> Command {
    let (topic, n) = (id(topic), PartitionIndex(n));
    let (_, partition) = image.stored_partition(topic, n).unwrap();
    let leader = partition.leader.unwrap();
    Command::AlterPartition {
        broker: leader,
        broker_epoch: image.brokers()[&leader].epoch,
        changes: vec![PartitionChange {
            topic,
            partition: n,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.replicas.clone(),
            epochs: Vec::new(),
            version: image.version(),
        }],
    }
}

#[test]
fn partitions_follow_their_leaders_in_the_command_that_moves_them() {
    let mut image = ready();
    let mut command = deploy("t", 1, &["in"], &["out"]);
    if let Command::DeployTransform { spec, .. } = &mut command {
        spec.workers = 3;
    }
    applied(&mut image, &command);
    assert_eq!(brokers(&image), [1, 2, 3, 1, 2, 3]);
    let before = transform(&image).assignment.clone();
    step(&mut image, |image| fence(image, 3));
    let after = transform(&image).assignment.clone();
    for (earlier, later) in before.iter().zip(&after) {
        assert_eq!(earlier == later, earlier.broker != BrokerId(3));
        assert!(later.broker != BrokerId(3) && (earlier == later || later.since == image.version()));
    }
    step(&mut image, |image| unfence(image, 3));
    assert_eq!(transform(&image).assignment, after, "it leads nothing yet");
    for (topic, partitions) in [(1, 6), (2, 3)] {
        for n in 0..partitions {
            step(&mut image, |image| all_in_sync(image, topic, n));
        }
    }
    assert_eq!(
        transform(&image).assignment,
        after,
        "who is in sync does not matter"
    );
    let elect = Command::ElectLeaders {
        kind: Election::Preferred,
        partitions: None,
    };
    applied(&mut image, &elect);
    assert_eq!(brokers(&image), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn draining_brokers_work_only_if_there_are_no_others() {
    let mut image = deployed();
    let drain = |id: i32| Command::DrainBroker {
        id: BrokerId(id),
        draining: true,
    };
    applied(&mut image, &drain(1));
    assert!(!brokers(&image).contains(&1));
    for id in [2, 3] {
        step(&mut image, |image| fence(image, id));
    }
    assert_eq!(brokers(&image), [1; 6]);
    step(&mut image, |image| fence(image, 1));
    assert!(transform(&image).assignment.is_empty());
    step(&mut image, |image| unfence(image, 2));
    assert_eq!(brokers(&image), [2; 6]);
}

#[test]
fn new_partitions_are_given_out() {
    let mut image = ready();
    applied(
        &mut image,
        &create("v", 3, 0, &[("millstream.view.source", "in")]),
    );
    applied(&mut image, &deploy("t", 1, &["v"], &["out"]));
    let add = Command::CreatePartitions {
        topic: name("in"),
        added: vec![ids(&[3, 1]), ids(&[1, 2])],
    };
    applied(&mut image, &add);
    let assignment = &transform(&image).assignment;
    assert_eq!(assignment.len(), 8, "a view has the partitions of its source");
    assert!(assignment.iter().all(|assigned| assigned.topic == name("v")));
}

#[test]
fn a_partition_that_was_added_since_begins_at_its_first_record() {
    let mut image = ready();
    let mut latest = deploy("t", 1, &["in"], &["out"]);
    if let Command::DeployTransform { spec, .. } = &mut latest {
        spec.start = Start::Latest;
    }
    applied(&mut image, &latest);
    let add = Command::CreatePartitions {
        topic: name("in"),
        added: vec![ids(&[3, 1])],
    };
    applied(&mut image, &add);
    let image = Image::decode(&image.encode()).unwrap();
    let start = |partition| transform(&image).start(&name("in"), PartitionIndex(partition));
    assert_eq!((start(5), start(6)), (Start::Latest, Start::Earliest));
    let mut before = Transform::clone(transform(&image));
    before.deployed_with.clear();
    let start = before.start(&name("in"), PartitionIndex(6));
    assert_eq!(
        start,
        Start::Latest,
        "older images do not say how many there were"
    );
}

#[test]
fn a_transform_is_paused_resumed_and_scaled() {
    let mut image = deployed();
    let assignment = transform(&image).assignment.clone();
    let paused = changed(&mut image, TransformChange::Pause);
    assert!(paused.paused && paused.assignment == assignment);
    unchanged(&mut image, TransformChange::Pause);
    let resumed = changed(&mut image, TransformChange::Resume);
    assert!(!resumed.paused && resumed.since == image.version());
    let again = changed(&mut image, TransformChange::Resume);
    assert_eq!(again.since, image.version(), "partitions that failed begin anew");
    unchanged(&mut image, TransformChange::Scale { workers: 4 });
    let one = changed(&mut image, TransformChange::Scale { workers: 1 });
    assert!(one.assignment.iter().all(|assigned| assigned.worker == 0));
}

#[test]
fn an_upgrade_is_taken_back_once() {
    let mut image = ready();
    let mut command = deploy("t", 1, &["in"], &["out"]);
    if let Command::DeployTransform { plugin, .. } = &mut command {
        *plugin = PluginRef::parse("p@0.1.0").unwrap();
    }
    applied(&mut image, &command);
    let first = transform(&image).current.clone();
    unchanged(&mut image, upgrade("p@0.1.0", None, None));
    let upgraded = changed(&mut image, upgrade("p", None, None));
    assert_eq!(upgraded.current.reference().to_string(), "p@0.2.0");
    assert_eq!(
        (upgraded.current.generation, upgraded.current.config.as_str()),
        (image.version(), "{}")
    );
    assert_eq!(upgraded.previous.as_ref(), Some(&first));
    unchanged(&mut image, upgrade("p", Some("{}"), None));
    unchanged(&mut image, roll_back(Some(first.generation)));
    let back = changed(&mut image, roll_back(Some(upgraded.current.generation)));
    assert_eq!((&back.current, &back.previous), (&first, &None));
    assert_eq!(back.rolled_back.as_deref(), Some("it fails"));
    let other_config = changed(&mut image, upgrade("p@0.1.0", Some("[]"), None));
    assert_eq!(other_config.rolled_back, None);
    let by_hand = changed(&mut image, roll_back(None));
    assert_eq!((by_hand.current, by_hand.rolled_back), (first, None));
}

#[test]
fn a_canary_runs_on_some_partitions_and_is_promoted() {
    let mut image = deployed();
    let before = transform(&image).clone();
    let tried = changed(&mut image, upgrade("p@0.1.0", None, Some(34)));
    let canary = tried.canary.clone().unwrap().release;
    assert_eq!((on_trial(&tried), canary.generation), (3, image.version()));
    for (n, (assigned, earlier)) in tried.assignment.iter().zip(&before.assignment).enumerate() {
        assert_eq!((assigned.canary, assigned.since), (n < 3, earlier.since));
        assert_eq!(
            tried.release(assigned),
            if n < 3 { &canary } else { &before.current }
        );
    }
    unchanged(&mut image, upgrade("p@0.1.0", None, Some(34)));
    unchanged(&mut image, promote(before.current.generation));
    let promoted = changed(&mut image, promote(canary.generation));
    assert_eq!(
        (&promoted.current, promoted.previous.as_ref()),
        (&canary, Some(&before.current))
    );
    assert_eq!((promoted.canary, promoted.assignment), (None, before.assignment));
    unchanged(&mut image, promote(canary.generation));
}

#[test]
fn a_canary_is_taken_back_and_leaves_what_ran() {
    let mut image = deployed();
    let before = transform(&image).clone();
    for (percent, expected) in [(1, 1), (50, 3), (99, 5)] {
        let tried = changed(&mut image, upgrade("p@0.1.0", None, Some(percent)));
        assert_eq!(on_trial(&tried), expected);
        let generation = tried.canary.unwrap().release.generation;
        unchanged(&mut image, roll_back(Some(before.current.generation)));
        let back = changed(&mut image, roll_back(Some(generation)));
        assert_eq!(
            (&back.current, &back.canary, &back.previous),
            (&before.current, &None, &None)
        );
        assert_eq!(
            (on_trial(&back), back.rolled_back.as_deref()),
            (0, Some("it fails"))
        );
        unchanged(&mut image, roll_back(Some(generation)));
    }
    let resumed = changed(&mut image, TransformChange::Resume);
    assert_eq!(resumed.rolled_back, None);
}

#[test]
fn the_reason_of_a_rollback_is_kept_in_part_if_it_is_long() {
    let mut image = deployed();
    changed(&mut image, upgrade("p", Some("[]"), None));
    let long = TransformChange::Rollback {
        generation: None,
        reason: Some("ä".repeat(5000)),
    };
    let kept = changed(&mut image, long).rolled_back.unwrap();
    assert_eq!(kept.chars().count(), 1000);
}

#[test]
fn topics_and_plugins_stay_while_transforms_need_them() {
    let mut image = ready();
    applied(&mut image, &create("bad", 3, 1, &[]).on_broker(1));
    let mut command = deploy("enrich", 1, &["in"], &["out"]);
    if let Command::DeployTransform { spec, .. } = &mut command {
        spec.on_error = OnError::DeadLetter(name("bad"));
    }
    applied(&mut image, &command);
    for (n, topic) in [(1, "in"), (2, "out"), (3, "bad")] {
        let expected = format!("topic '{topic}' is read or written by transforms: delete enrich first");
        refused(&mut image, &Command::DeleteTopic { id: id(n) }, &expected);
    }
    let forget = |v: &str| Command::DeletePlugin {
        name: "p".to_owned(),
        version: version(v),
    };
    applied(&mut image, &change("enrich", upgrade("p@0.1.0", None, Some(20))));
    applied(&mut image, &push("p", "cc", World::Partitioner));
    for v in ["0.1.0", "0.2.0"] {
        let expected = format!("plugin 'p@{v}' is in use by enrich (transform, as p@{v})");
        refused(&mut image, &forget(v), &expected);
    }
    let generation = image
        .transform("enrich")
        .unwrap()
        .canary
        .as_ref()
        .unwrap()
        .release
        .generation;
    applied(&mut image, &change("enrich", promote(generation)));
    let expected = "plugin 'p@0.2.0' is in use by enrich (transform, as p@0.2.0)";
    refused(&mut image, &forget("0.2.0"), expected);
    applied(&mut image, &delete("enrich"));
    for n in 1..=3 {
        applied(&mut image, &Command::DeleteTopic { id: id(n) });
    }
    applied(&mut image, &forget("0.1.0"));
}

trait OnBroker {
    fn on_broker(self, id: i32) -> Command;
}

impl OnBroker for Command {
    fn on_broker(mut self, id: i32) -> Command {
        if let Command::CreateTopic { partitions, .. } = &mut self {
            partitions.fill(ids(&[id]));
        }
        self
    }
}

/// Any command about the transforms `one` and `two`, which run the plugin `p`.
pub fn any_transform_command(topics: &[&'static str]) -> impl Strategy<Value = Command> + use<> {
    let topics = topics.to_vec();
    let some = prop::sample::subsequence(topics.clone(), 1..=topics.len());
    let others = prop::sample::subsequence(topics, 1..=2);
    let transform = || prop_oneof![Just("one"), Just("two")];
    let plugin = prop_oneof![Just("p"), Just("p@0.1.0"), Just("p@0.2.0"), Just("q")];
    let trial = prop::option::weighted(0.5, 1..100_u8);
    let config = prop_oneof![Just(None), Just(Some("[]"))];
    let any_change = prop_oneof![
        1 => Just(TransformChange::Pause),
        2 => Just(TransformChange::Resume),
        3 => (0..8_u32).prop_map(|workers| TransformChange::Scale { workers }),
        4 => (plugin, config, trial).prop_map(|(plugin, config, trial)| upgrade(plugin, config, trial)),
        1 => (0..20_u64).prop_map(promote),
        2 => prop::option::of(0..20_u64).prop_map(roll_back),
    ];
    prop_oneof![
        3 => (transform(), 0..3_u128, some, others).prop_map(|(t, n, from, to)| deploy(t, n, &from, &to)),
        6 => (transform(), any_change).prop_map(|(t, to)| change(t, to)),
        1 => transform().prop_map(delete),
    ]
}

/// What holds of all transforms at all times.
pub fn check_transforms(image: &Image) {
    let mut settled = image.clone();
    settled.settle_transforms();
    assert_eq!(
        &settled, image,
        "every command leaves assignments as they are to be"
    );
    for transform in image.transforms() {
        let spec = &transform.spec;
        assert!(spec.sources.iter().all(|source| image.topic(source).is_some()));
        assert!(
            spec.outputs()
                .all(|to| image.topic(to).is_some_and(|topic| !topic.is_view()))
        );
        for release in transform.releases() {
            assert!(image.plugin(&release.reference()).is_some());
            assert!(release.generation <= image.version());
        }
        check_assignment(image, transform);
    }
    let ids: BTreeSet<_> = image.transforms().map(|transform| transform.id).collect();
    assert_eq!(ids.len(), image.transforms().len());
}

fn check_assignment(image: &Image, transform: &Transform) {
    let live = |broker: &&Broker| !broker.fenced;
    let assignment = &transform.assignment;
    if !image.brokers().values().any(|broker| live(&broker)) {
        assert!(assignment.is_empty());
        return;
    }
    let sources = transform.spec.sources.iter();
    let read = sources.flat_map(|source| {
        let partitions = image.partitions(image.topic(source).unwrap()).len() as i32;
        (0..partitions).map(move |n| (source, PartitionIndex(n)))
    });
    let read: Vec<_> = read.collect();
    let given: Vec<_> = assignment.iter().map(|a| (&a.topic, a.partition)).collect();
    assert_eq!(given, read, "every partition once, in order");
    let used = read.len().min(transform.spec.workers as usize);
    let mut sizes = vec![0; used];
    let mut homes = vec![None; used];
    for assigned in assignment {
        let broker = &image.brokers()[&assigned.broker];
        let others_stay = || image.brokers().values().filter(live).any(|b| !b.draining);
        assert!(!broker.fenced && (!broker.draining || !others_stay()));
        let worker = assigned.worker as usize;
        sizes[worker] += 1;
        assert_eq!(*homes[worker].get_or_insert(assigned.broker), assigned.broker);
        assert!(assigned.since <= image.version());
    }
    let (least, most) = (read.len() / used, read.len().div_ceil(used));
    let is_weighed = assignment.iter().any(|assigned| assigned.cost > 0);
    let even = |size: &usize| (least..=most).contains(size) || is_weighed && *size > 0;
    assert!(sizes.iter().all(even));
    let on_trial = on_trial(transform);
    assert!(assignment.iter().take(on_trial).all(|a| a.canary));
    match transform.canary {
        Some(_) => assert!(0 < on_trial && on_trial < read.len()),
        None => assert_eq!(on_trial, 0),
    }
}

/// What holds between an image and the next one: who moves begins anew, who stays does not.
pub fn check_moves(before: &Image, after: &Image) {
    for transform in after.transforms() {
        let earlier = before.transform(&transform.spec.name);
        let earlier = earlier.filter(|earlier| earlier.id == transform.id);
        for assigned in &transform.assignment {
            let same = |a: &&Assigned| (&a.topic, a.partition) == (&assigned.topic, assigned.partition);
            let was = earlier.and_then(|earlier| earlier.assignment.iter().find(same));
            let place = |a: &Assigned| (a.broker, a.worker);
            match was.filter(|was| place(was) == place(assigned)) {
                Some(was) => assert_eq!(assigned.since, was.since),
                None => assert_eq!(assigned.since, after.version()),
            }
        }
    }
}
