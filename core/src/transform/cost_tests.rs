//! Rules of the assignment by cost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::tests::{any_brokers, any_leaders, brokers, led_by, local, moved, on, settled, then};
use super::{COST_MAX, Load, Place, Source, assign, assign_by_cost, loads};
use crate::ids::BrokerId;

/// What the workers cost, in their order.
fn loaded(places: &[Place], costs: &[u32]) -> Vec<u64> {
    let pairs: Vec<_> = places
        .iter()
        .zip(costs)
        .map(|(place, cost)| (place.worker, *cost))
        .collect();
    loads(&pairs).values().map(|load| load.cost).collect()
}

/// Costs as they are meant: bounded, and the mean where they are not known.
fn meant(costs: &[u32], partitions: usize) -> Vec<u64> {
    let costs: Vec<u64> = (0..partitions)
        .map(|n| u64::from(costs.get(n).copied().unwrap_or(0).min(COST_MAX)))
        .collect();
    let known: Vec<u64> = costs.iter().copied().filter(|cost| *cost > 0).collect();
    let mean = known.iter().sum::<u64>().div_ceil(known.len().max(1) as u64);
    costs
        .iter()
        .map(|cost| if *cost == 0 { mean } else { *cost })
        .collect()
}

/// Assigns, and checks what holds of every assignment.
fn weighed(sources: &[Source], costs: &[u32], able: &BTreeSet<BrokerId>, workers: u32) -> Vec<Place> {
    let places = assign_by_cost(sources, costs, able, workers);
    if able.is_empty() || workers == 0 {
        assert!(places.is_empty());
        return places;
    }
    assert_eq!(places.len(), sources.len(), "every partition has one worker");
    let mut homes = BTreeMap::new();
    for place in &places {
        assert!(able.contains(&place.broker));
        let home = homes.entry(place.worker).or_insert(place.broker);
        assert_eq!(*home, place.broker, "a worker is on one broker");
    }
    let used = sources.len().min(workers as usize);
    assert_eq!(homes.len(), used, "no worker has nothing");
    assert!(homes.keys().all(|worker| (*worker as usize) < used));
    let again = assign_by_cost(&settled(sources, &places), costs, able, workers);
    assert_eq!(again, places, "given in again, it stays");
    let same = assign_by_cost(sources, costs, able, workers);
    assert_eq!(same, places, "the same gives the same");
    if used > 0 && costs.iter().take(sources.len()).any(|cost| *cost > 0) {
        check_bound(&places, &meant(costs, sources.len()), used as u64);
    }
    places
}

/// No worker costs more than a fifth above the mean, or than what comes out if every partition is given to the worker that
/// costs least (Graham, Bounds for certain multiprocessing anomalies, 1966), but for the size of a step.
fn check_bound(places: &[Place], costs: &[u64], workers: u64) {
    let mean = costs.iter().sum::<u64>().div_ceil(workers);
    let costliest = costs.iter().max().copied().unwrap_or(0);
    let greedy = mean + costliest * (workers - 1) / workers;
    let bound = greedy.max(mean * 6 / 5) + mean / 32 + 2;
    let mut by_worker: BTreeMap<u32, u64> = BTreeMap::new();
    for (place, cost) in places.iter().zip(costs) {
        *by_worker.entry(place.worker).or_default() += cost;
    }
    for load in by_worker.values() {
        assert!(*load <= bound, "{load} > {bound}: {places:?} {costs:?}");
    }
}

/// Two workers on one broker, with three partitions each.
fn halves() -> Vec<Place> {
    assign(&led_by(&[1; 6]), &brokers(&[1]), 2)
}

#[test]
fn a_costly_partition_leaves_its_worker_nothing_else() {
    let costs = [600, 50, 50, 50, 50, 50];
    let before = halves();
    let sources = then(&before, &[1; 6]);
    let after = weighed(&sources, &costs, &brokers(&[1]), 2);
    assert_eq!(loaded(&before, &costs), [700, 150]);
    assert_eq!(loaded(&after, &costs), [600, 250]);
    assert_eq!(
        moved(&before, &after).len(),
        2,
        "only what shared a worker with it"
    );
    assert_eq!(before[0], after[0]);
}

#[test]
fn beside_a_costly_partition_the_others_are_even_among_themselves() {
    let worker = |worker| Place {
        broker: BrokerId(1),
        worker,
    };
    let before = [0, 1, 1, 1, 2].map(worker);
    let costs = [900, 100, 100, 100, 10];
    let after = weighed(&then(&before, &[1; 5]), &costs, &brokers(&[1]), 3);
    assert_eq!(loaded(&after, &costs), [900, 200, 110]);
}

#[test]
fn workers_that_are_even_enough_give_nothing_away() {
    let before = halves();
    let sources = then(&before, &[1; 6]);
    let mut costs = [100; 6];
    costs[0] = 130;
    assert_eq!(weighed(&sources, &costs, &brokers(&[1]), 2), before);
    costs[0] = 400;
    assert_ne!(weighed(&sources, &costs, &brokers(&[1]), 2), before);
}

#[test]
fn what_no_move_evens_out_an_exchange_does() {
    let worker = |worker| Place {
        broker: BrokerId(1),
        worker,
    };
    let before = [worker(0), worker(0), worker(1), worker(1)];
    let costs = [300, 300, 150, 150];
    let after = weighed(&then(&before, &[1; 4]), &costs, &brokers(&[1]), 2);
    assert_eq!(loaded(&after, &costs), [450, 450]);
}

#[test]
fn where_no_cost_is_known_workers_are_even_by_number() {
    let all = brokers(&[1, 2]);
    let sources = led_by(&[1, 2, 1, 2, 1, 2, 2]);
    let by_number = assign(&sources, &all, 3);
    for unknown in [&[][..], &[0; 7], &[0; 2]] {
        assert_eq!(assign_by_cost(&sources, unknown, &all, 3), by_number);
    }
    assert_eq!(
        assign_by_cost(&sources, &[9, 9, 1, 1, 1, 1, 1], &all, 100),
        assign(&sources, &all, 100),
        "nothing can be chosen with a worker for each"
    );
}

#[test]
fn a_partition_that_was_not_measured_counts_as_the_mean() {
    let sources = led_by(&[1; 4]);
    let places = weighed(&sources, &[900, 0, 300], &brokers(&[1]), 2);
    let costs = [900, 600, 300, 600];
    assert_eq!(loaded(&places, &costs), [1200, 1200]);
}

#[test]
fn huge_costs_are_cut() {
    let sources = led_by(&[1; 3000]);
    let costs = vec![u32::MAX; 3000];
    let places = weighed(&sources, &costs, &brokers(&[1]), 3);
    assert_eq!(places, weighed(&sources, &[COST_MAX; 3000], &brokers(&[1]), 3));
    let cut = u64::from(COST_MAX);
    for load in loaded(&places, &costs) {
        assert!((800 * cut..=1200 * cut).contains(&load), "{load}");
    }
}

#[test]
fn what_a_worker_has_is_the_sum_of_its_partitions() {
    let load = |partitions, cost| Load { partitions, cost };
    assert_eq!(
        loads(&[(0, 900), (1, 100), (1, 150)]),
        BTreeMap::from([(0, load(1, 900)), (1, load(2, 250))])
    );
    let one_unknown = loads(&[(0, 0), (0, 100), (0, 300)]);
    assert_eq!(one_unknown, BTreeMap::from([(0, load(3, 600))]));
    assert_eq!(loads(&[(4, 0)]), BTreeMap::from([(4, load(1, 0))]));
}

#[test]
fn a_worker_that_is_added_gets_about_its_share() {
    let all = brokers(&[1]);
    let costs = [100; 40];
    let before = weighed(&led_by(&[1; 40]), &costs, &all, 4);
    let after = weighed(&then(&before, &[1; 40]), &costs, &all, 5);
    assert_eq!(loaded(&after, &costs).iter().sum::<u64>(), 4000);
    assert!(loaded(&after, &costs)[4] >= 640);
    assert!(moved(&before, &after).iter().all(|n| after[*n].worker == 4));
}

#[test]
fn a_broker_that_dies_leaves_its_partitions_by_what_they_cost_and_nothing_else_moves() {
    let leaders = [1, 2, 3, 1, 2, 3, 1, 2, 3];
    let costs = [300, 300, 300, 100, 100, 100, 50, 50, 50];
    let before = weighed(&led_by(&leaders), &costs, &brokers(&[1, 2, 3]), 3);
    assert_eq!(on(&before), leaders);
    let heirs = [1, 2, 1, 1, 2, 2, 1, 2, 1];
    let after = weighed(&then(&before, &heirs), &costs, &brokers(&[1, 2]), 3);
    assert_eq!(moved(&before, &after), [2, 5, 8]);
    assert!(loaded(&after, &costs).iter().all(|load| *load <= 540));
}

#[test]
fn a_new_partition_goes_where_it_is_led_if_a_worker_there_has_room() {
    let all = brokers(&[1, 2, 3]);
    let place = |broker: i32| Place {
        broker: BrokerId(broker),
        worker: broker as u32 - 1,
    };
    let before: Vec<Place> = [1, 1, 2, 2, 3, 3].map(place).to_vec();
    let costs = [45, 45, 25, 25, 50, 50, 10];
    let after = weighed(&then(&before, &[1, 1, 2, 2, 3, 3, 1]), &costs, &all, 3);
    assert_eq!((moved(&before, &after), after[6]), (vec![], place(1)));
    let full = [45, 45, 25, 25, 50, 50, 20];
    let after = weighed(&then(&before, &[1, 1, 2, 2, 3, 3, 1]), &full, &all, 3);
    assert_eq!((moved(&before, &after), after[6]), (vec![], place(2)));
}

#[test]
fn a_partition_follows_its_leader_while_workers_stay_even_enough() {
    let all = brokers(&[1, 2]);
    let costs = [100, 100, 100, 100, 30, 30];
    let before = weighed(&led_by(&[1, 1, 2, 2, 1, 2]), &costs, &all, 2);
    let small = weighed(&then(&before, &[1, 1, 2, 2, 2, 2]), &costs, &all, 2);
    assert_eq!(moved(&before, &small), [4]);
    let large = weighed(&then(&before, &[1, 2, 2, 2, 1, 2]), &costs, &all, 2);
    assert_eq!(large, before, "too much for the worker there");
    let both = weighed(&then(&before, &[1, 2, 1, 2, 1, 2]), &costs, &all, 2);
    assert_eq!(on(&both), [1, 2, 1, 2, 1, 2], "they are exchanged");
}

#[test]
fn nearness_leaves_a_worker_most_of_its_share() {
    let all = brokers(&[1, 2, 3, 4]);
    let costs = [20; 20];
    let leaders: Vec<i32> = (1..=4).cycle().take(20).collect();
    let before = weighed(&led_by(&leaders), &costs, &all, 4);
    assert_eq!(on(&before), leaders);
    let mut gone = leaders;
    (gone[3], gone[7], gone[11]) = (1, 2, 3);
    let after = weighed(&then(&before, &gone), &costs, &all, 4);
    assert_eq!(moved(&before, &after), [3]);
}

/// Numbers that go their way again.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        // Knuth's MMIX generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// A transform as large as it gets, from several beginnings. An optimised build takes milliseconds; what is bounded here is
/// what takes minutes, as anything does that looks at all partitions in each step.
#[test]
fn ten_thousand_partitions_are_given_out_at_once() {
    let mut random = random(7);
    let all: BTreeSet<_> = (1..=20).map(BrokerId).collect();
    let leaders: Vec<i32> = (0..10_000).map(|_| 1 + random(20) as i32).collect();
    let even: Vec<u32> = (0..10_000).map(|_| 1 + random(100) as u32).collect();
    let steep: Vec<u32> = (0..10_000)
        .map(|_| (1_000_000 / (1 + random(10_000))) as u32)
        .collect();
    let one = assign(&led_by(&leaders), &all, 1);
    let by_number = assign(&led_by(&leaders), &all, 1000);
    for (before, costs) in [(vec![], &even), (one, &steep), (by_number, &steep)] {
        let sources = then(&before, &leaders);
        let begun = Instant::now();
        let places = assign_by_cost(&sources, costs, &all, 1000);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "{took:?}");
        let again = assign_by_cost(&settled(&sources, &places), costs, &all, 1000);
        assert!(again == places, "given in again, it stays");
        check_bound(&places, &meant(costs, 10_000), 1000);
    }
}

/// Costs, most of them of one size, some of another, some not known.
fn any_costs(max: usize) -> impl Strategy<Value = Vec<u32>> {
    let cost = prop_oneof![
        4 => 1..=20_u32, 3 => 50..=200_u32, 2 => 500..=1000_u32, 1 => Just(0), 1 => any::<u32>(),
    ];
    prop::collection::vec(cost, 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_the_rules_hold_by_cost(
        steps in prop::collection::vec((any_leaders(40), any_costs(45), any_brokers(), 0..12_u32), 1..8),
    ) {
        let mut places = Vec::new();
        for (leaders, costs, able, workers) in steps {
            places = weighed(&then(&places, &leaders), &costs, &able, workers);
        }
    }

    #[test]
    fn whatever_was_before_the_rules_hold_by_cost(
        partitions in prop::collection::vec((0..=5_i32, prop::option::of((0..7_i32, 0..9_u32))), 0..40),
        costs in any_costs(45), able in any_brokers(), workers in 0..12_u32,
    ) {
        let sources: Vec<Source> = partitions
            .iter()
            .map(|(leader, before)| Source {
                before: before.map(|(broker, worker)| Place { broker: BrokerId(broker), worker }),
                ..led_by(&[*leader])[0]
            })
            .collect();
        weighed(&sources, &costs, &able, workers);
    }

    /// Where nothing is to be brought nearer. The mean here is that of all; what is even enough beside partitions that cost
    /// more is less than that, never more.
    #[test]
    fn nothing_moves_while_no_worker_costs_too_much(
        costs in prop::collection::vec(50..=100_u32, 8..40), n in any::<prop::sample::Index>(), other in 1..=200_u32,
        workers in 2..8_u32,
    ) {
        let (all, leaders) = (brokers(&[1, 2, 3]), vec![0; costs.len()]);
        let before = weighed(&led_by(&leaders), &costs, &all, workers);
        let mut costs = costs;
        *n.get_mut(&mut costs) = other;
        let after = weighed(&then(&before, &leaders), &costs, &all, workers);
        let share = costs.iter().map(|c| u64::from(*c)).sum::<u64>() / u64::from(workers);
        let was = loaded(&before, &costs);
        if u64::from(costs.iter().max().copied().unwrap_or(0)) <= share && was.iter().all(|load| *load <= share * 6 / 5) {
            prop_assert_eq!(&after, &before);
        }
        let is = loaded(&after, &costs);
        prop_assert!(is.iter().max() <= was.iter().max(), "no worker costs more than the costliest did");
    }

    /// By cost as by number: what moves when leaders move leads to more that runs where it is led.
    #[test]
    fn when_leaders_move_nothing_moves_for_nothing_by_cost(
        costs in prop::collection::vec(1..=100_u32, 30), old in prop::collection::vec(1..=5_i32, 30),
        new in prop::collection::vec(1..=5_i32, 30), workers in 1..12_u32,
    ) {
        let able = brokers(&[1, 2, 3, 4, 5]);
        let before = weighed(&led_by(&old), &costs, &able, workers);
        let sources = then(&before, &new);
        let after = weighed(&sources, &costs, &able, workers);
        if before != after {
            prop_assert!(local(&sources, &after) > 0);
        }
        let same = weighed(&then(&before, &old), &costs, &able, workers);
        prop_assert_eq!(same, before);
    }
}
