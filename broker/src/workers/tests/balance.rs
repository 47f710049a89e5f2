//! Partitions are given out by what they cost.

use std::collections::BTreeMap;

use super::*;
use crate::workers::balance::costs;
use crate::workers::report::{WorkerReport, workers};

/// What is produced of late: to partition 0 what takes long, to the others what does not.
async fn produce_all(world: &World, n: usize) {
    for partition in 0..6 {
        let toil = if partition == 0 { 9 } else { 1 };
        let value = format!("0{toil} {n}");
        world.produce("six", partition, &batch(&[&value])).await.unwrap();
    }
}

async fn two_workers_of_six_partitions() -> World {
    let world = world().await;
    for topic in ["six", "out"] {
        world.create(topic, 6, &[]).await.unwrap();
    }
    world.push("toiler", guests::toiler()).await.unwrap();
    let spec = TransformSpec {
        sources: vec![topic("six")],
        sinks: vec![TransformSink {
            name: "out".to_owned(),
            topic: topic("out"),
        }],
        ..spec("toil")
    };
    deploy(&world, spec, "toiler").await.unwrap();
    world
}

fn partitions_of(reports: &[PartitionReport], worker: u32) -> Vec<i32> {
    let of = reports.iter().filter(|report| report.worker == worker);
    of.map(|report| report.partition).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_takes_long_gets_a_worker_of_its_own_and_nothing_is_lost_or_doubled() {
    let world = two_workers_of_six_partitions().await;
    let before = look(&world, "toil").await;
    let worker = before[0].worker;
    assert_eq!(partitions_of(&before, worker).len(), 3);
    let mut produced = 0;
    loop {
        produce_all(&world, produced).await;
        produced += 1;
        let image = world.context().controller.image();
        let assignment = &image.transform("toil").unwrap().assignment;
        let worker = assignment[0].worker;
        if assignment
            .iter()
            .filter(|assigned| assigned.worker == worker)
            .count()
            == 1
        {
            break;
        }
        assert!(
            produced < 2000,
            "it shares a worker still: {:?}",
            look(&world, "toil").await
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Whoever goes on somewhere else goes on where it was.
    for _ in 0..20 {
        produce_all(&world, produced).await;
        produced += 1;
    }
    until_done(&world, "toil").await;
    for partition in 0..6 {
        let toil = if partition == 0 { 9 } else { 1 };
        let expected: Vec<String> = (0..produced).map(|n| format!("0{toil} {n}")).collect();
        comes_out(&world, "out", partition, &expected).await;
    }
    let reports = look(&world, "toil").await;
    let at_work = workers(&reports);
    let sizes: BTreeMap<u32, usize> = at_work.iter().map(|w| (w.worker, w.partitions)).collect();
    assert_eq!(sizes[&reports[0].worker], 1);
    assert_eq!(sizes.values().sum::<usize>(), 6);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_idle_costs_a_little_and_what_is_not_known_is_told_as_that() {
    let world = two_workers_of_six_partitions().await;
    let mut reports = look(&world, "toil").await;
    let told = [Some(500), None, Some(0), Some(7), None, Some(30)];
    for (report, cost) in reports.iter_mut().zip(told) {
        report.cost = cost;
    }
    let image = world.context().controller.image();
    let transform = image.transform("toil").unwrap();
    let expected = BTreeMap::from([(topic("six"), vec![500, 0, 1, 7, 0, 30])]);
    assert_eq!(costs(transform, &reports), expected);
    // A partition that no broker runs is in no assignment, and nobody tells of it.
    let mut partly = millstream_core::cluster::Transform::clone(transform);
    partly.assignment.remove(2);
    reports.remove(2);
    let expected = BTreeMap::from([(topic("six"), vec![500, 0, 0, 7, 0, 30])]);
    assert_eq!(costs(&partly, &reports), expected);
    world.end().await;
}

#[test]
fn what_a_worker_costs_is_the_sum_of_what_is_known() {
    let report = |partition, broker, worker, cost| PartitionReport {
        topic: "t".to_owned(),
        partition,
        broker,
        worker,
        state: State::Running,
        reason: None,
        plugin: "p@0.1.0".to_owned(),
        canary: false,
        committed: 0,
        end: 0,
        lag: 0,
        records_in: 0,
        records_out: 0,
        dropped: 0,
        dead_lettered: 0,
        errors: 0,
        ns_per_record: 0.0,
        cost,
        commits: 0,
        last_error: None,
    };
    let reports = [
        report(0, 1, 0, Some(30)),
        report(1, 2, 1, None),
        report(2, 1, 0, Some(4)),
        report(3, 1, 0, None),
        report(4, -1, 0, None),
    ];
    let worker = |worker, broker, partitions, cost| WorkerReport {
        worker,
        broker,
        partitions,
        cost,
    };
    assert_eq!(
        workers(&reports),
        [worker(0, 1, 3, Some(34)), worker(1, 2, 1, None)]
    );
}
