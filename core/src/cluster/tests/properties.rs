//! Rules that hold whatever happens to a cluster.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::scene::*;
use super::transforms::{any_transform_command, check_moves, check_transforms, deploy};
use super::*;

/// Something that happens; numbers are made to fit the image at that time.
#[derive(Debug, Clone)]
enum Event {
    Fence(i32),
    Unfence(i32),
    Restart(i32, usize),
    LoseDisk(i32),
    Drain(i32, bool),
    InSync {
        topic: u128,
        partition: i32,
        members: Vec<bool>,
        stale: u8,
    },
    Preferred,
    Unclean(u128, i32),
    Reassign(u128, i32, Option<Vec<i32>>),
    MinInsync(u128, u8),
    DefaultMinInsync(u8),
    AddPartition(u128, Vec<i32>),
    Transform(Box<Command>),
    Promote(&'static str),
    Weigh(&'static str, Vec<u32>),
}

fn any_event() -> impl Strategy<Value = Event> {
    let broker = 1..=5_i32;
    let replicas = Just(vec![1, 2, 3, 4, 5])
        .prop_shuffle()
        .prop_flat_map(|all| (1..=4_usize).prop_map(move |n| all[..n].to_vec()));
    let (topic, partition) = (1..=2_u128, 0..3_i32);
    let members = prop::collection::vec(any::<bool>(), 6);
    prop_oneof![
        4 => broker.clone().prop_map(Event::Fence),
        6 => broker.clone().prop_map(Event::Unfence),
        2 => (broker.clone(), 0..4_usize).prop_map(|(id, n)| Event::Restart(id, n)),
        1 => broker.clone().prop_map(Event::LoseDisk),
        1 => (broker, any::<bool>()).prop_map(|(id, on)| Event::Drain(id, on)),
        10 => (topic.clone(), partition.clone(), members, 0..12_u8).prop_map(|(topic, partition, members, stale)| {
            Event::InSync { topic, partition, members, stale }
        }),
        1 => Just(Event::Preferred),
        1 => (topic.clone(), partition.clone()).prop_map(|(t, p)| Event::Unclean(t, p)),
        3 => (topic.clone(), partition, prop::option::of(replicas.clone())).prop_map(|(t, p, r)| Event::Reassign(t, p, r)),
        1 => (topic.clone(), 0..4_u8).prop_map(|(t, n)| Event::MinInsync(t, n)),
        1 => (0..4_u8).prop_map(Event::DefaultMinInsync),
        1 => (topic, replicas).prop_map(|(t, r)| Event::AddPartition(t, r)),
        4 => any_transform_command(&["t1", "t2", "v", "out"]).prop_map(|command| Event::Transform(Box::new(command))),
        1 => prop_oneof![Just("one"), Just("two")].prop_map(Event::Promote),
        2 => (prop_oneof![Just("one"), Just("two")], prop::collection::vec(0..500_u32, 0..6))
            .prop_map(|(name, costs)| Event::Weigh(name, costs)),
    ]
}

impl Event {
    /// The command that it is now, if it can be.
    fn command(&self, image: &Image, n: u64) -> Option<Command> {
        let known = |id: i32| image.brokers()[&BrokerId(id)].clone();
        Some(match self {
            Self::Fence(id) => fence(image, *id),
            Self::Unfence(id) => unfence(image, *id),
            Self::Restart(id, min_insync) => Command::RegisterBroker {
                broker: Broker {
                    incarnation: 1000 + n,
                    min_insync: *min_insync,
                    ..known(*id)
                },
            },
            Self::LoseDisk(id) => Command::RegisterBroker {
                broker: Broker {
                    incarnation: 1000 + n,
                    storage: Uuid::from_u128(1000 + u128::from(n)),
                    ..known(*id)
                },
            },
            Self::Drain(id, draining) => Command::DrainBroker {
                id: BrokerId(*id),
                draining: *draining,
            },
            Self::InSync {
                topic,
                partition,
                members,
                stale,
            } => {
                let (topic, partition) = (id(*topic), PartitionIndex(*partition));
                let (_, entry) = image.stored_partition(topic, partition).ok()?;
                let broker = entry.leader?;
                let chosen = entry
                    .replicas
                    .iter()
                    .zip(members)
                    .filter(|(id, chosen)| **chosen || **id == broker);
                Command::AlterPartition {
                    broker,
                    broker_epoch: image.brokers()[&broker].epoch,
                    changes: vec![PartitionChange {
                        topic,
                        partition,
                        leader_epoch: LeaderEpoch(entry.leader_epoch.0 - i32::from(*stale == 0)),
                        partition_epoch: entry.partition_epoch - i32::from(*stale == 1),
                        isr: chosen.map(|(id, _)| *id).collect(),
                        epochs: Vec::new(),
                        version: image.version(),
                    }],
                }
            }
            Self::Preferred => Command::ElectLeaders {
                kind: Election::Preferred,
                partitions: None,
            },
            Self::Unclean(topic, partition) => Command::ElectLeaders {
                kind: Election::Unclean,
                partitions: Some(vec![(id(*topic), PartitionIndex(*partition))]),
            },
            Self::Reassign(topic, partition, replicas) => Command::Reassign {
                changes: vec![Reassignment {
                    topic: id(*topic),
                    partition: PartitionIndex(*partition),
                    replicas: replicas.as_deref().map(ids),
                }],
            },
            Self::MinInsync(topic, 0) => Command::AlterConfigs {
                topic: name(&format!("t{topic}")),
                update: ConfigUpdate::Replace(BTreeMap::new()),
            },
            Self::MinInsync(topic, n) => {
                set(&format!("t{topic}"), &[("min.insync.replicas", &n.to_string())])
            }
            Self::DefaultMinInsync(0) => Command::AlterBrokerConfigs {
                broker: None,
                update: ConfigUpdate::Replace(BTreeMap::new()),
            },
            Self::DefaultMinInsync(n) => Command::AlterBrokerConfigs {
                broker: None,
                update: ConfigUpdate::Change(vec![ConfigChange::Set(
                    "min.insync.replicas".to_owned(),
                    n.to_string(),
                )]),
            },
            Self::AddPartition(topic, replicas) => Command::CreatePartitions {
                topic: name(&format!("t{topic}")),
                added: vec![ids(replicas)],
            },
            Self::Transform(command) => Command::clone(command),
            Self::Promote(name) => Command::ChangeTransform {
                name: (*name).to_owned(),
                change: TransformChange::Promote {
                    generation: image.transform(name)?.canary.as_ref()?.release.generation,
                },
                at_ms: 7,
            },
            Self::Weigh(transform, costs) => Command::ChangeTransform {
                name: (*transform).to_owned(),
                change: TransformChange::Weigh {
                    generation: image.transform(transform)?.current.generation,
                    costs: BTreeMap::from([(name("t2"), costs.clone()), (name("v"), costs.clone())]),
                },
                at_ms: 7,
            },
        })
    }
}

use crate::ids::LeaderEpoch;

fn scene() -> Image {
    let mut image = cluster(&[(1, None), (2, None), (3, None), (4, None), (5, None)]);
    for (n, min_insync) in [(1, "2"), (2, "1")] {
        let mut command = create(&format!("t{n}"), n, 0, &[("min.insync.replicas", min_insync)]);
        if let Command::CreateTopic { partitions, .. } = &mut command {
            *partitions = vec![ids(&[1, 2, 3]), ids(&[4, 5, 1])];
        }
        applied(&mut image, &command);
    }
    applied(
        &mut image,
        &create("v", 3, 0, &[("millstream.view.source", "t1")]),
    );
    let mut out = create("out", 4, 0, &[]);
    if let Command::CreateTopic { partitions, .. } = &mut out {
        *partitions = vec![ids(&[2, 3, 4])];
    }
    applied(&mut image, &out);
    for sha256 in ["aa", "bb"] {
        applied(&mut image, &push("p", sha256, World::Transform));
    }
    for (n, transform) in ["one", "two"].into_iter().enumerate() {
        applied(&mut image, &deploy(transform, n as u128, &["v", "t2"], &["out"]));
    }
    image
}

/// What holds of every partition at all times.
fn check_partition(image: &Image, topic: &Topic, partition: &Partition) {
    let all = |of: &[BrokerId], among: &[BrokerId]| of.iter().all(|id| among.contains(id));
    let once = |of: &[BrokerId]| of.iter().collect::<BTreeSet<_>>().len() == of.len();
    let live = |id: &BrokerId| !image.brokers()[id].fenced;
    let Partition {
        replicas,
        isr,
        elr,
        lost,
        target,
        ..
    } = partition;
    assert!(!replicas.is_empty() && once(replicas) && once(isr) && once(elr) && once(target));
    assert!(all(isr, replicas) && all(elr, replicas) && all(target, replicas));
    assert!(
        !isr.iter().any(|id| elr.contains(id)),
        "in sync or eligible, not both"
    );
    assert!(elr.is_empty() || isr.len() < image.min_insync(topic, partition));
    assert!(lost.is_empty() || (isr.is_empty() && elr.is_empty()));
    match partition.leader {
        Some(leader) => {
            assert!(isr.contains(&leader), "the leader is in sync");
            assert!(
                isr.iter().all(live),
                "who is in sync beside the leader is in service"
            );
        }
        None => assert!(!isr.iter().chain(elr).any(live), "whoever can lead does"),
    }
    let origin = partition.origin();
    assert_eq!(
        partition.is_moving(),
        !partition.adding.is_empty() || !partition.removing.is_empty()
    );
    assert!(
        partition
            .adding
            .iter()
            .all(|id| target.contains(id) && !origin.contains(id))
    );
    assert!(
        partition
            .removing
            .iter()
            .all(|id| origin.contains(id) && !target.contains(id))
    );
    assert!(
        !partition.is_moving() || !all(target, isr),
        "a move ends when all are in sync"
    );
}

/// What holds between an entry and the next one.
fn check_step(before: &Partition, after: &Partition, event: &Event) {
    assert!(after.partition_epoch >= before.partition_epoch && after.leader_epoch >= before.leader_epoch);
    assert_eq!(
        after.partition_epoch == before.partition_epoch,
        after == before,
        "every change counts"
    );
    if after.leader != before.leader {
        assert!(
            after.leader_epoch > before.leader_epoch,
            "every leader has its own epoch"
        );
    }
    let stays = |id: &BrokerId| after.replicas.contains(id);
    if !before.replicas.iter().all(stays) {
        assert!(
            after.leader_epoch > before.leader_epoch,
            "who goes is forgotten with the term"
        );
    }
    let knew = |id: &BrokerId| before.isr.contains(id) || before.elr.contains(id);
    match event {
        Event::Unclean(..) => {}
        Event::InSync { .. } => assert!(after.elr.iter().all(knew)),
        _ => {
            assert!(
                after.leader.iter().all(knew),
                "elected from those that hold everything"
            );
            assert!(
                after.isr.iter().chain(&after.elr).all(knew),
                "only the leader lets others in"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn whatever_happens_leaders_hold_everything(events in prop::collection::vec(any_event(), 1..80)) {
        let mut image = scene();
        let mut other = Image::decode(&image.encode()).unwrap();
        for (n, event) in events.iter().enumerate() {
            let Some(command) = event.command(&image, n as u64) else { continue };
            let before = image.clone();
            let outcome = apply(&mut image, &command);
            let changed = image.encode() != before.encode();
            prop_assert_eq!(image.version() - before.version(), u64::from(changed));
            prop_assert!(outcome.is_ok() || !changed);
            // The same on another broker that got the command by wire and the image by snapshot.
            let read: Command = serde_json::from_slice(&serde_json::to_vec(&command).unwrap()).unwrap();
            let elsewhere = apply(&mut other, &read);
            prop_assert_eq!(&outcome, &elsewhere);
            let text = serde_json::to_vec(&outcome).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<Result<Outcome, Refusal>>(&text).unwrap(), &outcome);
            other = Image::decode(&other.encode()).unwrap();
            prop_assert_eq!(image.encode(), other.encode());
            prop_assert_eq!(&image, &other);
            check_transforms(&image);
            check_moves(&before, &image);
            for (topic, index, partition) in image.stored_partitions() {
                check_partition(&image, topic, partition);
                if let Ok((_, earlier)) = before.stored_partition(topic.id, index) {
                    check_step(earlier, partition, event);
                }
            }
        }
    }
}
