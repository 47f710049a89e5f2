//! Rules of the assignment.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Place, Source, assign};
use crate::ids::BrokerId;

pub(super) fn brokers(ids: &[i32]) -> BTreeSet<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// New partitions, led by these brokers; 0 says that nobody leads.
pub(super) fn led_by(leaders: &[i32]) -> Vec<Source> {
    let sources = leaders.iter().map(|leader| Source {
        leader: (*leader != 0).then_some(BrokerId(*leader)),
        before: None,
    });
    sources.collect()
}

/// The same partitions after an assignment, led by whoever leads them now.
pub(super) fn then(places: &[Place], leaders: &[i32]) -> Vec<Source> {
    let before = places.iter().map(Some).chain(std::iter::repeat(None));
    let sources = led_by(leaders).into_iter().zip(before);
    sources
        .map(|(source, before)| Source {
            before: before.copied(),
            ..source
        })
        .collect()
}

pub(super) fn settled(sources: &[Source], places: &[Place]) -> Vec<Source> {
    let pairs = sources.iter().zip(places);
    pairs
        .map(|(source, place)| Source {
            before: Some(*place),
            ..*source
        })
        .collect()
}

pub(super) fn on(places: &[Place]) -> Vec<i32> {
    places.iter().map(|place| place.broker.0).collect()
}

pub(super) fn local(sources: &[Source], places: &[Place]) -> usize {
    let pairs = sources.iter().zip(places);
    pairs
        .filter(|(source, place)| source.leader == Some(place.broker))
        .count()
}

pub(super) fn moved(before: &[Place], after: &[Place]) -> Vec<usize> {
    (0..before.len().min(after.len()))
        .filter(|n| before[*n] != after[*n])
        .collect()
}

/// What holds of every assignment.
fn check(sources: &[Source], able: &BTreeSet<BrokerId>, workers: u32, places: &[Place]) {
    if able.is_empty() || workers == 0 {
        assert!(places.is_empty());
        return;
    }
    assert_eq!(places.len(), sources.len(), "every partition has one worker");
    let (mut sizes, mut homes) = (BTreeMap::new(), BTreeMap::new());
    for place in places {
        assert!(able.contains(&place.broker));
        *sizes.entry(place.worker).or_insert(0) += 1;
        let home = homes.entry(place.worker).or_insert(place.broker);
        assert_eq!(*home, place.broker, "a worker is on one broker");
    }
    let used = sources.len().min(workers as usize);
    assert_eq!(sizes.len(), used, "all workers are used");
    assert!(sizes.keys().all(|worker| (*worker as usize) < used));
    let (least, most) = (sizes.values().min(), sizes.values().max());
    assert!(
        most.unwrap_or(&0) - least.unwrap_or(&0) <= 1,
        "workers have the same, or one more"
    );
    let again = assign(&settled(sources, places), able, workers);
    assert_eq!(again, places, "given in again, it stays");
    assert_eq!(assign(sources, able, workers), places, "the same gives the same");
}

fn assigned(sources: &[Source], able: &BTreeSet<BrokerId>, workers: u32) -> Vec<Place> {
    let places = assign(sources, able, workers);
    check(sources, able, workers, &places);
    places
}

#[test]
fn partitions_run_where_they_are_led() {
    let sources = led_by(&[1, 2, 3, 1, 2, 3]);
    for workers in [3, 6, 100] {
        let places = assigned(&sources, &brokers(&[1, 2, 3]), workers);
        assert_eq!(on(&places), [1, 2, 3, 1, 2, 3]);
    }
    let one = assigned(&led_by(&[1, 2, 2]), &brokers(&[1, 2]), 1);
    assert_eq!(on(&one), [2, 2, 2], "one worker is where most is led");
}

#[test]
fn nobody_runs_anything_without_brokers_partitions_or_workers() {
    assert!(assign(&led_by(&[1]), &brokers(&[]), 1).is_empty());
    assert!(assign(&[], &brokers(&[1]), 1).is_empty());
    assert!(assign(&led_by(&[1]), &brokers(&[1]), 0).is_empty());
}

#[test]
fn partitions_that_nobody_leads_are_spread() {
    let places = assigned(&led_by(&[0; 6]), &brokers(&[1, 2, 3]), 3);
    let mut spread = on(&places);
    spread.sort_unstable();
    assert_eq!(spread, [1, 1, 2, 2, 3, 3]);
}

#[test]
fn a_broker_that_dies_leaves_its_workers_to_the_others_and_gets_them_back_with_its_leaders() {
    let leaders = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3];
    let all = brokers(&[1, 2, 3]);
    let before = assigned(&led_by(&leaders), &all, 3);
    let after_death = [1, 2, 1, 1, 2, 2, 1, 2, 1, 1, 2, 2];
    let during = assigned(&then(&before, &after_death), &brokers(&[1, 2]), 3);
    assert_eq!(
        moved(&before, &during),
        [2, 5, 8, 11],
        "only what ran there moves"
    );
    let back = assigned(&then(&during, &after_death), &all, 3);
    assert_eq!(back, during, "a broker that leads nothing gets nothing");
    let after = assigned(&then(&back, &leaders), &all, 3);
    assert_eq!(on(&after), leaders);
    assert_eq!(moved(&back, &after), [2, 5, 8, 11]);
}

#[test]
fn a_leader_that_moves_takes_its_partition_along_if_a_worker_there_has_room() {
    let all = brokers(&[1, 2]);
    let before = assigned(&led_by(&[1, 1, 1, 2, 2]), &all, 2);
    let after = assigned(&then(&before, &[1, 1, 2, 2, 2]), &all, 2);
    assert_eq!(moved(&before, &after), [2]);
    let full = assigned(&then(&after, &[1, 2, 2, 2, 2]), &all, 2);
    assert_eq!(full, after, "each worker has its share");
    let exchanged = assigned(&then(&full, &[1, 2, 2, 1, 2]), &all, 2);
    assert_eq!(on(&exchanged), [1, 2, 2, 1, 2]);
}

#[test]
fn a_worker_goes_to_another_broker_for_the_greater_half_of_its_partitions_only() {
    let all = brokers(&[1, 2]);
    let before = assigned(&led_by(&[1, 1, 1, 2]), &all, 1);
    let even = assigned(&then(&before, &[1, 2, 2, 2]), &all, 1);
    assert_eq!(on(&even), [1, 1, 1, 1]);
    let all_gone = assigned(&then(&even, &[2, 2, 2, 2]), &all, 1);
    assert_eq!(on(&all_gone), [2, 2, 2, 2]);
}

#[test]
fn more_workers_take_from_those_that_are_there() {
    let (all, leaders) = (brokers(&[1, 2]), [1, 2, 1, 2, 1, 2, 1, 2]);
    let two = assigned(&led_by(&leaders), &all, 2);
    let four = assigned(&then(&two, &leaders), &all, 4);
    assert_eq!((on(&four), moved(&two, &four).len()), (leaders.to_vec(), 4));
    let two_again = assigned(&then(&four, &leaders), &all, 2);
    assert_eq!(
        (on(&two_again), moved(&four, &two_again).len()),
        (leaders.to_vec(), 4)
    );
}

/// Leaders of partitions over five brokers, some of which may work.
pub(super) fn any_leaders(max: usize) -> impl Strategy<Value = Vec<i32>> {
    prop::collection::vec(0..=5_i32, 0..max)
}

pub(super) fn any_brokers() -> impl Strategy<Value = BTreeSet<BrokerId>> {
    prop::collection::btree_set((1..=5_i32).prop_map(BrokerId), 0..=5)
}

/// Leaders of which each of `count` brokers has as many as any other, or one more, in any order.
fn balanced() -> impl Strategy<Value = (i32, Vec<i32>)> {
    (1..=5_i32, 1..40_usize).prop_flat_map(|(count, partitions)| {
        let leaders: Vec<i32> = (1..=count).cycle().take(partitions).collect();
        (Just(count), Just(leaders).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_the_rules_hold(
        steps in prop::collection::vec((any_leaders(40), any_brokers(), 0..12_u32), 1..8),
    ) {
        let mut places = Vec::new();
        for (leaders, able, workers) in steps {
            places = assigned(&then(&places, &leaders), &able, workers);
        }
    }

    /// What was before may be anything: it is never trusted.
    #[test]
    fn whatever_was_before_the_rules_hold(
        partitions in prop::collection::vec((0..=5_i32, prop::option::of((0..7_i32, 0..9_u32))), 0..40),
        able in any_brokers(),
        workers in 0..12_u32,
    ) {
        let sources: Vec<Source> = partitions
            .iter()
            .map(|(leader, before)| Source {
                before: before.map(|(broker, worker)| Place { broker: BrokerId(broker), worker }),
                ..led_by(&[*leader])[0]
            })
            .collect();
        assigned(&sources, &able, workers);
    }

    /// With workers that are as many on each broker, or one for each partition; others cannot be shared out so.
    #[test]
    fn with_balanced_leaders_everything_is_local((count, leaders) in balanced(), each in 1..4_u32) {
        let able = (1..=count).map(BrokerId).collect();
        let sources = led_by(&leaders);
        for workers in [each * count as u32, 1000] {
            prop_assert_eq!(local(&sources, &assigned(&sources, &able, workers)), leaders.len());
        }
    }

    #[test]
    fn one_worker_for_each_partition_is_always_local(leaders in prop::collection::vec(1..=5_i32, 1..40), old in any_leaders(40)) {
        let able = brokers(&[1, 2, 3, 4, 5]);
        let before = assigned(&led_by(&old), &able, 1000);
        let sources = then(&before, &leaders);
        prop_assert_eq!(local(&sources, &assigned(&sources, &able, 1000)), leaders.len());
    }

    #[test]
    fn after_the_loss_of_a_broker_only_its_partitions_move(
        (count, leaders) in balanced(), each in 1..4_u32, lost in 1..=5_i32, heirs in prop::collection::vec(1..=5_i32, 40),
    ) {
if count == 1 {
            return Ok(());
        }
        let lost = 1 + lost % count;
        let able: BTreeSet<_> = (1..=count).map(BrokerId).collect();
        let workers = each * count as u32;
        let before = assigned(&led_by(&leaders), &able, workers);
        let left: BTreeSet<_> = able.into_iter().filter(|id| id.0 != lost).collect();
        let live: Vec<i32> = left.iter().map(|id| id.0).collect();
        let heir = |n: usize| live[heirs[n] as usize % live.len()];
        let led: Vec<i32> = (0..leaders.len())
            .map(|n| if leaders[n] == lost { heir(n) } else { leaders[n] })
            .collect();
        let sources = then(&before, &led);
        let after = assigned(&sources, &left, workers);
        for n in moved(&before, &after) {
            prop_assert_eq!(before[n].broker.0, lost);
        }
    }

    #[test]
    fn when_leaders_move_nothing_moves_for_nothing(
        old in prop::collection::vec(1..=5_i32, 30), new in prop::collection::vec(1..=5_i32, 30), workers in 1..12_u32,
    ) {
        let able = brokers(&[1, 2, 3, 4, 5]);
        let before = assigned(&led_by(&old), &able, workers);
        let sources = then(&before, &new);
        let after = assigned(&sources, &able, workers);
        let (was, is) = (local(&sources, &before), local(&sources, &after));
        prop_assert!(is >= was);
        if before != after {
            prop_assert!(is > was);
        }
    }
}
