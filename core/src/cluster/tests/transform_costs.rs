//! Partitions of transforms are given out by what they cost.

use super::scene::*;
use super::transforms::{change, deploy, ready, upgrade};
use super::*;
use crate::transform::COST_MAX;

/// What the partitions of `in` cost.
fn weigh(image: &Image, costs: &[u32]) -> TransformChange {
    TransformChange::Weigh {
        generation: image.transform("t").unwrap().current.generation,
        costs: BTreeMap::from([(name("in"), costs.to_vec())]),
    }
}

/// As [`ready`], with the transform `t`, whose six partitions two workers run.
fn deployed() -> Image {
    let mut image = ready();
    let mut command = deploy("t", 1, &["in"], &["out"]);
    if let Command::DeployTransform { spec, .. } = &mut command {
        spec.workers = 2;
    }
    applied(&mut image, &command);
    image
}

fn transform(image: &Image) -> &Transform {
    image.transform("t").unwrap()
}

/// The worker of each partition.
fn workers(image: &Image) -> Vec<u32> {
    transform(image).assignment.iter().map(|a| a.worker).collect()
}

fn costs(image: &Image) -> Vec<u32> {
    transform(image).assignment.iter().map(|a| a.cost).collect()
}

/// The image stays as it is, to the last byte; whoever asks before knows that.
#[track_caller]
fn nothing_comes_of(image: &mut Image, to: &TransformChange) {
    let before = image.encode();
    if let TransformChange::Weigh { generation, costs } = to {
        assert!(!image.would_weigh("t", *generation, costs));
    }
    assert_eq!(apply(image, &change("t", to.clone())), Ok(Outcome::Unchanged));
    assert_eq!(image.encode(), before);
}

#[track_caller]
fn comes_out(image: &mut Image, to: &TransformChange) {
    if let TransformChange::Weigh { generation, costs } = to {
        assert!(image.would_weigh("t", *generation, costs));
    }
    let before = transform(image).clone();
    applied(image, &change("t", to.clone()));
    for (was, is) in before.assignment.iter().zip(&transform(image).assignment) {
        let has_moved = (was.broker, was.worker) != (is.broker, is.worker);
        assert_eq!(is.since, if has_moved { image.version() } else { was.since });
    }
    check_weighed(image);
}

fn check_weighed(image: &Image) {
    super::transforms::check_transforms(image);
    assert_eq!(&Image::decode(&image.encode()).unwrap(), image);
}

#[test]
fn a_costly_partition_gets_a_worker_of_its_own_and_keeps_it_whatever_becomes_of_leaders() {
    let mut image = deployed();
    let before = workers(&image);
    assert_eq!(before.iter().filter(|worker| **worker == before[0]).count(), 3);
    let heavy = weigh(&image, &[600, 50, 50, 50, 50, 50]);
    comes_out(&mut image, &heavy);
    assert_eq!(costs(&image), [600, 50, 50, 50, 50, 50]);
    let after = workers(&image);
    assert_eq!(after[0], before[0]);
    assert_eq!(after.iter().filter(|worker| **worker == after[0]).count(), 1);
    nothing_comes_of(&mut image, &heavy);
    let gone = fence(&image, 2);
    applied(&mut image, &gone);
    let rest = workers(&image);
    assert_eq!(rest.iter().filter(|worker| **worker == rest[0]).count(), 1);
    assert_eq!(costs(&image), [600, 50, 50, 50, 50, 50]);
    check_weighed(&image);
}

#[test]
fn what_is_not_worth_it_changes_nothing() {
    let mut image = deployed();
    let first = workers(&image)[0];
    let of_first: Vec<bool> = workers(&image).iter().map(|worker| *worker == first).collect();
    let split = |own: u32, other: u32| -> Vec<u32> {
        of_first
            .iter()
            .map(|is_own| if *is_own { own } else { other })
            .collect()
    };
    let even_enough = weigh(&image, &split(120, 100));
    nothing_comes_of(&mut image, &even_enough);
    let idle = weigh(&image, &split(33, 1));
    nothing_comes_of(&mut image, &idle);
    let alone: Vec<u32> = (0..6).map(|n| if n == 0 { 990 } else { 1 }).collect();
    let little = weigh(&image, &alone);
    nothing_comes_of(&mut image, &little);
    let busy = weigh(&image, &split(34, 1));
    comes_out(&mut image, &busy);
}

#[test]
fn costs_that_cannot_be_count_for_nothing_or_for_the_highest() {
    let mut image = deployed();
    let generation = transform(&image).current.generation;
    let elsewhere = TransformChange::Weigh {
        generation,
        costs: BTreeMap::from([(name("out"), vec![900, 1, 1]), (name("gone"), vec![900])]),
    };
    nothing_comes_of(&mut image, &elsewhere);
    let nothing = TransformChange::Weigh {
        generation,
        costs: BTreeMap::new(),
    };
    nothing_comes_of(&mut image, &nothing);
    let unknown = weigh(&image, &[0; 6]);
    nothing_comes_of(&mut image, &unknown);
    let first = workers(&image)[0];
    let of_first: Vec<bool> = workers(&image).iter().map(|worker| *worker == first).collect();
    let all = |own: u32| -> Vec<u32> {
        of_first
            .iter()
            .map(|is_own| if *is_own { own } else { 1 })
            .collect()
    };
    let huge = weigh(&image, &[all(u32::MAX), vec![u32::MAX; 3]].concat());
    comes_out(&mut image, &huge);
    assert_eq!(costs(&image), all(COST_MAX));
    assert_eq!(
        apply(&mut image, &change("gone", nothing)),
        Err(TransformRefusal::Unknown("gone".to_owned()).into())
    );
    assert!(!image.would_weigh("gone", generation, &BTreeMap::new()));
}

#[test]
fn what_is_not_told_stays_as_it_was() {
    let mut image = deployed();
    let heavy = weigh(&image, &[600, 50, 50, 50, 50, 50]);
    comes_out(&mut image, &heavy);
    let lighter = weigh(&image, &[10, 0]);
    comes_out(&mut image, &lighter);
    assert_eq!(costs(&image), [10, 50, 50, 50, 50, 50]);
    let workers = workers(&image);
    assert_eq!(workers.iter().filter(|worker| **worker == workers[0]).count(), 3);
}

#[test]
fn only_what_runs_is_weighed_and_no_trial_is_disturbed() {
    let mut image = deployed();
    let heavy = [600, 50, 50, 50, 50, 50];
    let late = weigh(&image, &heavy);
    applied(&mut image, &change("t", upgrade("p", Some("[]"), None)));
    nothing_comes_of(&mut image, &late);
    applied(&mut image, &change("t", upgrade("p", Some("{}"), Some(20))));
    let on_trial = weigh(&image, &heavy);
    nothing_comes_of(&mut image, &on_trial);
    applied(&mut image, &change("t", super::transforms::roll_back(None)));
    let now = weigh(&image, &heavy);
    comes_out(&mut image, &now);
}

#[test]
fn costs_stay_when_workers_or_partitions_are_added() {
    let mut image = deployed();
    let heavy = weigh(&image, &[600, 50, 50, 50, 50, 50]);
    comes_out(&mut image, &heavy);
    applied(&mut image, &change("t", TransformChange::Scale { workers: 3 }));
    let add = Command::CreatePartitions {
        topic: name("in"),
        added: vec![ids(&[3, 1])],
    };
    applied(&mut image, &add);
    assert_eq!(costs(&image), [600, 50, 50, 50, 50, 50, 0]);
    let workers = workers(&image);
    assert_eq!(workers.iter().filter(|worker| **worker == workers[0]).count(), 1);
    check_weighed(&image);
}

#[test]
fn images_and_commands_from_before_costs_load() {
    let image = deployed();
    let text = String::from_utf8(image.encode()).unwrap();
    assert!(
        !text.contains("\"cost\""),
        "what is not known takes no room: {text}"
    );
    assert_eq!(Image::decode(text.as_bytes()).unwrap(), image);
    let command = change("t", weigh(&image, &[1, 2]));
    let text = serde_json::to_string(&command).unwrap();
    assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
}
