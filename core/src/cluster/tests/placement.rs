//! Rules of placement.

use proptest::prelude::*;

use super::scene::*;
use super::*;
use crate::cluster::placement::{place, place_more};

/// Brokers in so many racks, equally many in each; none for brokers without a rack.
fn racks(racks: Option<usize>, each: usize) -> Image {
    let names = ["a", "b", "c", "d", "e"];
    let brokers: Vec<_> = (0..racks.unwrap_or(1) * each)
        .map(|n| (n as i32 + 1, racks.map(|racks| names[n % racks])))
        .collect();
    cluster(&brokers)
}

fn counts(image: &Image, of: impl Iterator<Item = BrokerId>) -> Vec<usize> {
    let mut counts: BTreeMap<BrokerId, usize> = image.brokers().keys().map(|id| (*id, 0)).collect();
    for id in of {
        *counts.get_mut(&id).unwrap() += 1;
    }
    counts.into_values().collect()
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
}

fn distinct_racks(image: &Image, replicas: &[BrokerId]) -> usize {
    let rack = |id: &BrokerId| match &image.brokers()[id].rack {
        Some(rack) => rack.clone(),
        None => id.to_string(),
    };
    let racks: std::collections::BTreeSet<_> = replicas.iter().map(rack).collect();
    racks.len()
}

fn check_even(image: &Image, placed: &[Vec<BrokerId>]) {
    assert!(
        spread(&counts(image, placed.iter().flatten().copied())) <= 1,
        "replicas: {placed:?}"
    );
    assert!(
        spread(&counts(image, placed.iter().map(|r| r[0]))) <= 1,
        "leaders: {placed:?}"
    );
}

#[test]
fn there_are_no_more_replicas_than_brokers_that_can_take_them() {
    let mut image = cluster(&[(1, None), (2, None), (3, None), (4, None)]);
    let drain = Command::DrainBroker {
        id: BrokerId(4),
        draining: true,
    };
    applied(&mut image, &drain);
    step(&mut image, |image| fence(image, 2));
    assert_eq!(
        place(&image, 1, 3, 0).unwrap_err().to_string(),
        "replication factor 3 is not from 1 to 2, the number of brokers that can take replicas; fenced are [2]; \
         draining are [4]"
    );
    assert_eq!(
        place(&image, 1, 0, 0).unwrap_err().to_string(),
        "replication factor 0 is not from 1 to 2, the number of brokers that can take replicas; fenced are [2]; \
         draining are [4]"
    );
    for replicas in place(&image, 10, 2, 0).unwrap() {
        assert!(replicas == ids(&[1, 3]) || replicas == ids(&[3, 1]));
    }
}

#[test]
fn a_brokers_leaderships_are_inherited_by_all_others() {
    let image = racks(None, 5);
    let placed = place(&image, 40, 3, 7).unwrap();
    for leader in image.brokers().keys() {
        let led = placed.iter().filter(|replicas| replicas[0] == *leader);
        let heirs: std::collections::BTreeSet<_> = led.map(|replicas| replicas[1]).collect();
        assert!(heirs.len() >= 3, "{leader}: {heirs:?}");
    }
}

#[test]
fn topics_of_one_partition_do_not_pile_up() {
    let mut image = racks(Some(3), 1);
    for n in 1..=9 {
        let command = placed(&image, &format!("t{n}"), n, 1, 1);
        applied(&mut image, &command);
    }
    let all: Vec<_> = image
        .stored_partitions()
        .flat_map(|(_, _, p)| p.replicas.clone())
        .collect();
    assert_eq!(counts(&image, all.into_iter()), [3, 3, 3]);
}

#[test]
fn new_partitions_make_up_for_what_is_uneven() {
    let mut image = racks(None, 4);
    applied(&mut image, &on(&[&[1, 2], &[1, 2], &[2, 1], &[1, 2]], &[]));
    let topic = image.topic("t").unwrap();
    let more = place_more(&image, topic, 4, 3).unwrap();
    let all = topic
        .partitions
        .iter()
        .map(|p| &p.replicas)
        .chain(&more)
        .flatten();
    assert_eq!(counts(&image, all.copied()), [4, 4, 4, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn replicas_and_leaders_are_even_and_no_rack_is_used_twice(
        racked in prop::option::of(1..=5_usize), each in 1..=4_usize, partitions in 0..60_usize, factor in 1..=5_usize, seed: u64,
    ) {
        let image = racks(racked, each);
        let brokers = image.brokers().len();
        prop_assume!(factor <= brokers);
        let placed = place(&image, partitions, factor, seed).unwrap();
        prop_assert_eq!(placed.len(), partitions);
        check_even(&image, &placed);
        for replicas in &placed {
            prop_assert_eq!(distinct_racks(&image, replicas), factor.min(racked.unwrap_or(brokers)));
        }
        prop_assert_eq!(&place(&image, partitions, factor, seed).unwrap(), &placed);
    }

    #[test]
    fn uneven_racks_are_still_used_once(
        sizes in prop::collection::vec(1..=4_usize, 1..=4), partitions in 0..40_usize, factor in 1..=4_usize, seed: u64,
    ) {
        let names = ["a", "b", "c", "d"];
        let racks = sizes.iter().zip(names).flat_map(|(size, name)| vec![name; *size]);
        let brokers: Vec<_> = racks.zip(1..).map(|(rack, id)| (id, Some(rack))).collect();
        prop_assume!(factor <= brokers.len());
        let image = cluster(&brokers);
        for replicas in place(&image, partitions, factor, seed).unwrap() {
            prop_assert_eq!(distinct_racks(&image, &replicas), factor.min(sizes.len()));
            let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
            prop_assert_eq!(distinct.len(), factor);
        }
    }

    #[test]
    fn partitions_that_are_added_keep_it_even(
        racked in prop::option::of(1..=3_usize), each in 1..=3_usize, first in 1..20_usize, more in 1..20_usize,
        factor in 1..=3_usize, seed: u64,
    ) {
        let mut image = racks(racked, each);
        prop_assume!(factor <= image.brokers().len());
        let command = placed(&image, "t", 1, first, factor);
        applied(&mut image, &command);
        let topic = image.topic("t").unwrap();
        let added = place_more(&image, topic, more, seed).unwrap();
        let mut all: Vec<_> = topic.partitions.iter().map(|p| p.replicas.clone()).collect();
        all.extend(added);
        prop_assert!(spread(&counts(&image, all.iter().flatten().copied())) <= 1);
        // Who leads the first ones is not changed for the others' sake.
        prop_assert!(spread(&counts(&image, all.iter().map(|r| r[0]))) <= 2);
    }
}
