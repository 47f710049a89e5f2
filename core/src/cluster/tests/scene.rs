//! A cluster to tell stories about.

use super::*;
use crate::cluster::placement::place;
use crate::ids::LeaderEpoch;

/// A cluster whose brokers are registered and let in, each with its id as incarnation and storage.
pub fn cluster(brokers: &[(i32, Option<&str>)]) -> Image {
    let mut image = Image::default();
    let bootstrap = Command::Bootstrap {
        cluster_id: "prod".to_owned(),
        image: None,
    };
    applied(&mut image, &bootstrap);
    for (id, rack) in brokers {
        applied(
            &mut image,
            &Command::RegisterBroker {
                broker: broker(*id, *rack),
            },
        );
        step(&mut image, |image| unfence(image, *id));
    }
    image
}

pub fn broker(id: i32, rack: Option<&str>) -> Broker {
    Broker {
        id: BrokerId(id),
        host: "localhost".to_owned(),
        port: 9092,
        rack: rack.map(str::to_owned),
        peer: Some(format!("localhost:{}", 9192 + id)),
        incarnation: id as u64,
        storage: Uuid::from_u128(id as u128),
        features: FEATURE_LEVELS,
        ..Broker::default()
    }
}

/// Three brokers, and a topic `t` whose only partition is on all of them, with this `min.insync.replicas`.
pub fn three(min_insync: &str) -> Image {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    let create = on(&[&[1, 2, 3]], &[("min.insync.replicas", min_insync)]);
    applied(&mut image, &create);
    image
}

/// Makes the topic `t`, id 1, on these brokers.
pub fn on(partitions: &[&[i32]], configs: &[(&str, &str)]) -> Command {
    let mut command = create("t", 1, 0, configs);
    if let Command::CreateTopic { partitions: p, .. } = &mut command {
        *p = partitions.iter().map(|replicas| ids(replicas)).collect();
    }
    command
}

/// Makes a topic where placement puts it.
pub fn placed(image: &Image, topic: &str, n: u128, partitions: usize, factor: usize) -> Command {
    let mut command = create(topic, n, 0, &[]);
    if let Command::CreateTopic { partitions: p, .. } = &mut command {
        *p = place(image, partitions, factor, n as u64).unwrap();
    }
    command
}

pub fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

pub fn epoch(image: &Image, id: i32) -> u64 {
    image.brokers()[&BrokerId(id)].epoch
}

pub fn fence(image: &Image, id: i32) -> Command {
    Command::FenceBroker {
        id: BrokerId(id),
        epoch: epoch(image, id),
    }
}

pub fn unfence(image: &Image, id: i32) -> Command {
    Command::UnfenceBroker {
        id: BrokerId(id),
        epoch: epoch(image, id),
    }
}

/// Applies what the image makes of it.
#[track_caller]
pub fn step(image: &mut Image, command: impl Fn(&Image) -> Command) -> Outcome {
    let command = command(image);
    applied(image, &command)
}

/// As [`step`], where it may change nothing.
pub fn attempt(image: &mut Image, command: impl Fn(&Image) -> Command) -> Result<Outcome, Refusal> {
    let command = command(image);
    apply(image, &command)
}

/// As [`step`], with the only partition's answer.
#[track_caller]
pub fn answer_to(image: &mut Image, command: impl Fn(&Image) -> Command) -> Result<(), String> {
    let command = command(image);
    answer(image, &command)
}

/// A broker starts again; with another disk if `storage` is not its id.
pub fn restart(id: i32, incarnation: u64, storage: u128) -> Command {
    Command::RegisterBroker {
        broker: Broker {
            incarnation,
            storage: Uuid::from_u128(storage),
            ..broker(id, None)
        },
    }
}

/// What the leader of partition 0 of `t` asks for.
pub fn in_sync(image: &Image, isr: &[i32]) -> Command {
    let partition = t(image);
    let leader = partition.leader.unwrap();
    Command::AlterPartition {
        broker: leader,
        broker_epoch: image.brokers()[&leader].epoch,
        changes: vec![PartitionChange {
            topic: id(1),
            partition: PartitionIndex(0),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: ids(isr),
            epochs: Vec::new(),
            version: image.version(),
        }],
    }
}

pub fn t(image: &Image) -> &Partition {
    &image.topic("t").unwrap().partitions[0]
}

/// Checks partition 0 of `t`: leader, leader epoch, in-sync and eligible replicas.
#[track_caller]
pub fn expect(image: &Image, leader: Option<i32>, leader_epoch: i32, isr: &[i32], elr: &[i32]) {
    let partition = t(image);
    let is = (
        partition.leader,
        partition.leader_epoch,
        &partition.isr,
        &partition.elr,
    );
    let expected = (
        leader.map(BrokerId),
        LeaderEpoch(leader_epoch),
        &ids(isr),
        &ids(elr),
    );
    assert_eq!(is, expected);
}

/// The only partition's answer.
#[track_caller]
pub fn answer(image: &mut Image, command: &Command) -> Result<(), String> {
    let said = |result: Result<(), PartitionRefusal>| result.map_err(|refusal| refusal.to_string());
    match apply(image, command).unwrap() {
        Outcome::Partitions(results) => said(results[0].clone()),
        Outcome::Elections(elections) => said(elections[0].result.clone().map(|_| ())),
        other => panic!("{other:?}"),
    }
}
