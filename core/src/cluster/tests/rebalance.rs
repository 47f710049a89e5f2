//! Rules of the plan to evenness.

use proptest::prelude::*;

use super::scene::*;
use super::*;
use crate::cluster::rebalance::{Move, plan};

fn drain(id: i32) -> Command {
    Command::DrainBroker {
        id: BrokerId(id),
        draining: true,
    }
}

/// Makes the moves as a cluster would: all that is new catches up.
fn carry_out(image: &mut Image, moves: &[Move]) {
    let changes = moves.iter().map(Move::reassignment).collect();
    let Outcome::Partitions(results) = apply(image, &Command::Reassign { changes }).unwrap() else {
        panic!("a reassignment answers for each partition");
    };
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let moving: Vec<_> = image
        .stored_partitions()
        .filter(|(_, _, p)| p.is_moving())
        .map(|(topic, index, p)| (topic.id, index, p.clone()))
        .collect();
    for (topic, partition, p) in moving {
        let broker = p.leader.unwrap();
        let live = |id: &BrokerId| !image.brokers()[id].fenced;
        let command = Command::AlterPartition {
            broker,
            broker_epoch: image.brokers()[&broker].epoch,
            changes: vec![PartitionChange {
                topic,
                partition,
                leader_epoch: p.leader_epoch,
                partition_epoch: p.partition_epoch,
                isr: p.replicas.iter().copied().filter(live).collect(),
                epochs: Vec::new(),
                version: image.version(),
            }],
        };
        assert_eq!(answer(image, &command), Ok(()));
    }
}

/// Replicas and preferred leaders on brokers that take any.
fn loads(image: &Image) -> Vec<(usize, usize)> {
    let takers = image.brokers().values().filter(|b| b.takes_replicas());
    let load = |id: BrokerId| {
        let replicas = image
            .stored_partitions()
            .filter(|(_, _, p)| p.replicas.contains(&id));
        let leaders = image.stored_partitions().filter(|(_, _, p)| p.replicas[0] == id);
        (replicas.count(), leaders.count())
    };
    takers.map(|b| load(b.id)).collect()
}

fn check_even(image: &Image) {
    let (replicas, leaders): (Vec<_>, Vec<_>) = loads(image).into_iter().unzip();
    let spread = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
    assert!(spread(&replicas) <= 1, "replicas {replicas:?}");
    assert!(spread(&leaders) <= 1, "leaders {leaders:?}");
}

fn join(image: &mut Image, id: i32, rack: Option<&str>) {
    let register = Command::RegisterBroker {
        broker: broker(id, rack),
    };
    applied(image, &register);
    let unfence = unfence(image, id);
    applied(image, &unfence);
}

#[test]
fn a_broker_that_joins_gets_its_share_and_no_more() {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    let command = placed(&image, "t", 1, 12, 3);
    applied(&mut image, &command);
    assert_eq!(plan(&image, 1), []);
    join(&mut image, 4, None);
    let moves = plan(&image, 1);
    let copies: Vec<_> = moves.iter().flat_map(Move::copies).collect();
    assert_eq!(copies, vec![BrokerId(4); 9]);
    carry_out(&mut image, &moves);
    assert_eq!(loads(&image), [(9, 3); 4]);
    assert_eq!(plan(&image, 1), []);
}

#[test]
fn thousands_of_partitions_are_fenced_and_spread() {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    for n in 1..=20 {
        let command = placed(&image, &format!("t{n}"), n, 100, 3);
        applied(&mut image, &command);
    }
    let mut without_1 = image.clone();
    step(&mut without_1, |image| fence(image, 1));
    let led = |id: i32| {
        let partitions = without_1.stored_partitions();
        partitions
            .filter(|(_, _, p)| p.leader == Some(BrokerId(id)))
            .count()
    };
    assert_eq!((led(1), led(2) + led(3)), (0, 2000));
    assert!(
        led(2).abs_diff(led(3)) <= 20,
        "each topic gives both of them half, or one more"
    );
    join(&mut image, 4, None);
    let moves = plan(&image, 1);
    assert_eq!(moves.iter().flat_map(Move::copies).count(), 1500);
    carry_out(&mut image, &moves);
    assert_eq!(loads(&image), [(1500, 500); 4]);
}

#[test]
fn a_draining_broker_becomes_empty_even_if_it_is_dead() {
    let mut image = cluster(&[(1, None), (2, None), (3, None), (4, None)]);
    let command = placed(&image, "t", 1, 12, 3);
    applied(&mut image, &command);
    applied(&mut image, &drain(2));
    step(&mut image, |image| fence(image, 2));
    let moves = plan(&image, 1);
    carry_out(&mut image, &moves);
    assert_eq!(loads(&image), [(12, 4); 3]);
    applied(&mut image, &Command::RemoveBroker { id: BrokerId(2) });
}

#[test]
fn replicas_stay_on_a_draining_broker_that_nobody_can_replace() {
    let mut image = three("1");
    applied(&mut image, &drain(3));
    assert_eq!(plan(&image, 1), []);
}

#[test]
fn what_moves_already_is_left_to_arrive() {
    let mut image = cluster(&[(1, None), (2, None)]);
    applied(&mut image, &on(&[&[1], &[1], &[1], &[1]], &[]));
    let moves = plan(&image, 1);
    assert_eq!(moves.len(), 2);
    let changes = moves.iter().map(Move::reassignment).collect();
    applied(&mut image, &Command::Reassign { changes });
    assert_eq!(plan(&image, 1), []);
}

#[test]
fn the_brokers_own_topics_get_the_copies_that_they_lack_in_other_racks() {
    let mut image = cluster(&[(1, Some("a"))]);
    let mut offsets = placed(&image, CONSUMER_OFFSETS, 1, 4, 1);
    applied(&mut image, &offsets);
    offsets = placed(&image, "t", 2, 4, 1);
    applied(&mut image, &offsets);
    assert_eq!(plan(&image, 3), [], "there is nobody else");
    for (id, rack) in [(2, "a"), (3, "b"), (4, "c")] {
        join(&mut image, id, Some(rack));
    }
    step(&mut image, |image| fence(image, 4));
    let copies = |image: &Image, topic: &str| -> Vec<usize> {
        let partitions = &image.topic(topic).unwrap().partitions;
        partitions.iter().map(|p| p.replicas.len()).collect()
    };
    let moves = plan(&image, 2);
    carry_out(&mut image, &moves);
    assert_eq!(copies(&image, CONSUMER_OFFSETS), [2; 4]);
    assert_eq!(
        copies(&image, "t"),
        [1; 4],
        "others have what they were made with"
    );
    let apart = |p: &Partition| image.brokers()[&p.replicas[0]].rack != image.brokers()[&p.replicas[1]].rack;
    assert!(
        image
            .topic(CONSUMER_OFFSETS)
            .unwrap()
            .partitions
            .iter()
            .all(apart)
    );
    step(&mut image, |image| unfence(image, 4));
    let moves = plan(&image, 3);
    carry_out(&mut image, &moves);
    assert_eq!(copies(&image, CONSUMER_OFFSETS), [3; 4]);
    check_even(&image);
    assert_eq!(plan(&image, 3), []);
    assert_eq!(plan(&image, 1), [], "none is taken away");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_plan_ends_even_and_moves_the_least(
        topics in prop::collection::vec(1..16_usize, 1..5), factor in 1..=3_usize, racked: bool, joins in 0..3_usize,
        drains in prop::collection::btree_set(1..=6_i32, 0..3),
    ) {
        let racks = ["a", "b", "c"];
        let rack = |n: usize| racked.then(|| racks[n % 3]);
        let brokers: Vec<_> = (0..6).map(|n| (n as i32 + 1, rack(n))).collect();
        let mut image = cluster(&brokers);
        for (n, partitions) in topics.iter().enumerate() {
            let command = placed(&image, &format!("t{n}"), n as u128 + 1, *partitions, factor);
            applied(&mut image, &command);
        }
        // Racks stay equally large: one broker joins each, or one leaves each.
        let drains: Vec<i32> = if racked { Vec::new() } else { drains.into_iter().collect() };
        for n in 0..(if racked { 3 * (joins / 2) } else { joins }) {
            join(&mut image, 7 + n as i32, rack(n));
        }
        for id in &drains {
            applied(&mut image, &drain(*id));
        }
        let held: usize = image.replica_counts().iter().filter(|(id, _)| drains.contains(&id.0)).map(|(_, n)| n).sum();
        let total: usize = image.replica_counts().values().sum();
        let takers = image.brokers().values().filter(|b| b.takes_replicas()).count();
        let before: Vec<usize> = loads(&image).into_iter().map(|(replicas, _)| replicas).collect();
        let moves = plan(&image, 1);
        let copies = moves.iter().flat_map(Move::copies).count();
        let (floor, ceiling) = (total / takers, total.div_ceil(takers));
        let over: usize = before.iter().map(|load| load.saturating_sub(ceiling)).sum();
        let under: usize = before.iter().map(|load| floor.saturating_sub(*load)).sum();
        prop_assert!(copies >= over.max(under).max(held));
        if factor == 1 {
            prop_assert_eq!(copies, (over + held).max(under).max(held), "{:?}", before);
        }
        for m in &moves {
            prop_assert_eq!(m.from.len(), m.to.len());
            if racked {
                let used: std::collections::BTreeSet<_> = m.to.iter().map(|id| &image.brokers()[id].rack).collect();
                prop_assert_eq!(used.len(), factor);
            }
        }
        carry_out(&mut image, &moves);
        check_even(&image);
        for id in &drains {
            prop_assert!(!image.replica_counts().contains_key(&BrokerId(*id)));
        }
        prop_assert_eq!(plan(&image, 1), []);
    }

    #[test]
    fn whatever_the_racks_the_plan_brings_no_replicas_together(
        racks in prop::collection::vec(0..3_usize, 3..7), partitions in 1..20_usize, factor in 1..=3_usize, drained in 0..7_i32,
        fenced in 0..7_i32,
    ) {
        let names = ["a", "b", "c"];
        let brokers: Vec<_> = racks.iter().zip(1..).map(|(rack, id)| (id, Some(names[*rack]))).collect();
        let mut image = cluster(&brokers);
        let command = placed(&image, "t", 1, partitions, factor);
        applied(&mut image, &command);
        if image.brokers().contains_key(&BrokerId(drained)) {
            applied(&mut image, &drain(drained));
        }
        if image.brokers().contains_key(&BrokerId(fenced)) {
            step(&mut image, |image| fence(image, fenced));
        }
        let distinct = |replicas: &[BrokerId]| {
            let used: std::collections::BTreeSet<_> = replicas.iter().map(|id| &image.brokers()[id].rack).collect();
            used.len()
        };
        for m in plan(&image, 1) {
            let ids: std::collections::BTreeSet<_> = m.to.iter().collect();
            prop_assert_eq!((ids.len(), m.to.len()), (factor, factor));
            prop_assert!(m.copies().all(|id| image.brokers()[&id].takes_replicas()));
            let forced = m.from.contains(&BrokerId(drained));
            prop_assert!(forced || distinct(&m.to) >= distinct(&m.from));
        }
    }
}
