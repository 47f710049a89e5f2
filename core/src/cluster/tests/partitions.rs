//! Stories of who is in sync, who is eligible, and who leads.

use super::scene::*;
use super::*;

#[test]
fn leadership_moves_to_the_next_in_sync_replica() {
    let mut image = three("1");
    step(&mut image, |image| fence(image, 1));
    expect(&image, Some(2), 1, &[2, 3], &[]);
    step(&mut image, |image| unfence(image, 1));
    expect(&image, Some(2), 1, &[2, 3], &[]);
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[2, 3, 1])), Ok(()));
    expect(&image, Some(2), 1, &[2, 3, 1], &[]);
    assert_eq!(attempt(&mut image, |image| fence(image, 1)), Ok(Outcome::Done));
    assert_eq!(
        attempt(&mut image, |image| fence(image, 1)),
        Ok(Outcome::Unchanged)
    );
}

#[test]
fn leadership_goes_to_a_draining_broker_only_if_there_is_no_other() {
    let mut image = three("1");
    let drain = Command::DrainBroker {
        id: BrokerId(2),
        draining: true,
    };
    applied(&mut image, &drain);
    step(&mut image, |image| fence(image, 1));
    expect(&image, Some(3), 1, &[2, 3], &[]);
    step(&mut image, |image| fence(image, 3));
    expect(&image, Some(2), 2, &[2], &[]);
}

#[test]
fn the_last_in_sync_replica_waits_for_itself() {
    let mut image = three("1");
    for id in [3, 2, 1] {
        step(&mut image, |image| fence(image, id));
    }
    expect(&image, None, 1, &[1], &[]);
    step(&mut image, |image| unfence(image, 2));
    expect(&image, None, 1, &[1], &[]);
    step(&mut image, |image| unfence(image, 1));
    expect(&image, Some(1), 2, &[1], &[]);
}

#[test]
fn below_min_insync_those_that_left_stay_eligible() {
    let mut image = three("2");
    step(&mut image, |image| fence(image, 3));
    expect(&image, Some(1), 0, &[1, 2], &[]);
    step(&mut image, |image| fence(image, 2));
    expect(&image, Some(1), 0, &[1], &[2]);
    step(&mut image, |image| fence(image, 1));
    expect(&image, None, 1, &[1], &[2]);
    // 3 left while more was acknowledged: it cannot help.
    step(&mut image, |image| unfence(image, 3));
    expect(&image, None, 1, &[1], &[2]);
    step(&mut image, |image| unfence(image, 2));
    expect(&image, Some(2), 2, &[2], &[1]);
    // Enough are in sync again: what is acknowledged now, 1 may lack.
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[2, 3])), Ok(()));
    expect(&image, Some(2), 2, &[2, 3], &[]);
}

#[test]
fn an_eligible_replica_takes_over_while_the_last_in_sync_one_is_away() {
    let mut image = three("2");
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[1])), Ok(()));
    expect(&image, Some(1), 0, &[1], &[2, 3]);
    step(&mut image, |image| fence(image, 1));
    expect(&image, Some(2), 1, &[2], &[1, 3]);
    // Its disk is lost meanwhile.
    applied(&mut image, &restart(1, 11, 99));
    expect(&image, Some(2), 1, &[2], &[3]);
}

#[test]
fn fewer_copies_needed_end_eligibility() {
    let mut image = three("2");
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[1])), Ok(()));
    applied(&mut image, &set("t", &[("min.insync.replicas", "1")]));
    expect(&image, Some(1), 0, &[1], &[]);

    let mut image = three("1");
    let default = |value: &str| Command::AlterBrokerConfigs {
        broker: None,
        update: ConfigUpdate::Replace(BTreeMap::from([(
            "min.insync.replicas".to_owned(),
            value.to_owned(),
        )])),
    };
    applied(&mut image, &set("t", &[]));
    let unset = Command::AlterConfigs {
        topic: name("t"),
        update: ConfigUpdate::Replace(BTreeMap::new()),
    };
    applied(&mut image, &unset);
    applied(&mut image, &default("2"));
    let topic = image.topic("t").unwrap();
    assert_eq!(image.min_insync(topic, &topic.partitions[0]), 2);
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[1])), Ok(()));
    expect(&image, Some(1), 0, &[1], &[2, 3]);
    applied(&mut image, &default("1"));
    expect(&image, Some(1), 0, &[1], &[]);
}

/// A broker starts with this `min.insync.replicas`, and is let in.
fn starts_with(image: &mut Image, id: i32, incarnation: u64, min_insync: usize) {
    let mut register = restart(id, incarnation, id as u128);
    if let Command::RegisterBroker { broker } = &mut register {
        broker.min_insync = min_insync;
    }
    applied(image, &register);
    step(image, |image| unfence(image, id));
}

fn needed(image: &Image) -> usize {
    let topic = image.topic("t").unwrap();
    image.min_insync(topic, &topic.partitions[0])
}

#[test]
fn the_leader_says_how_many_are_needed_where_nothing_else_is_set() {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    for (id, min_insync) in [(1, 2), (2, 3), (3, 0)] {
        starts_with(&mut image, id, 10, min_insync);
    }
    applied(&mut image, &on(&[&[1, 2, 3]], &[]));
    assert_eq!(needed(&image), 2);
    step(&mut image, |image| fence(image, 3));
    expect(&image, Some(1), 0, &[1, 2], &[]);
    step(&mut image, |image| fence(image, 2));
    expect(&image, Some(1), 0, &[1], &[2]);
    step(&mut image, |image| fence(image, 1));
    expect(&image, None, 1, &[1], &[2]);
    assert_eq!(needed(&image), 2, "1 led it last");
    step(&mut image, |image| unfence(image, 2));
    expect(&image, Some(2), 2, &[2], &[1]);
    assert_eq!(needed(&image), 3);

    let all = |value: Option<&str>| Command::AlterBrokerConfigs {
        broker: None,
        update: ConfigUpdate::Replace(
            value
                .map(|value| ("min.insync.replicas".to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
        ),
    };
    applied(&mut image, &all(Some("2")));
    assert_eq!(
        needed(&image),
        2,
        "what is set for all brokers goes before what one starts with"
    );
    let one = Command::AlterBrokerConfigs {
        broker: Some(BrokerId(2)),
        update: ConfigUpdate::Replace([("min.insync.replicas".to_owned(), "3".to_owned())].into()),
    };
    applied(&mut image, &one);
    assert_eq!(needed(&image), 3, "and what is set for the leader before that");
    applied(&mut image, &set("t", &[("min.insync.replicas", "1")]));
    assert_eq!(needed(&image), 1, "and the topic before all");
    expect(&image, Some(2), 2, &[2], &[]);
}

#[test]
fn a_leader_that_needs_fewer_copies_ends_eligibility() {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    starts_with(&mut image, 1, 10, 2);
    starts_with(&mut image, 2, 10, 2);
    applied(&mut image, &on(&[&[1, 2, 3]], &[]));
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[1])), Ok(()));
    expect(&image, Some(1), 0, &[1], &[2, 3]);
    // It leads again once it is back, and acknowledges alone.
    step(&mut image, |image| fence(image, 2));
    step(&mut image, |image| fence(image, 3));
    step(&mut image, |image| fence(image, 1));
    expect(&image, None, 1, &[1], &[2, 3]);
    starts_with(&mut image, 1, 11, 1);
    expect(&image, Some(1), 2, &[1], &[]);

    // Another one leads that needs fewer.
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    starts_with(&mut image, 1, 10, 3);
    applied(&mut image, &on(&[&[1, 2, 3]], &[]));
    assert_eq!(answer_to(&mut image, |image| in_sync(image, &[1, 2])), Ok(()));
    expect(&image, Some(1), 0, &[1, 2], &[3]);
    step(&mut image, |image| fence(image, 1));
    expect(&image, Some(2), 1, &[2], &[]);
}

#[test]
fn no_more_copies_are_needed_than_there_are_replicas() {
    let mut image = cluster(&[(1, None), (2, None)]);
    applied(&mut image, &on(&[&[1]], &[("min.insync.replicas", "3")]));
    let topic = image.topic("t").unwrap();
    assert_eq!(image.min_insync(topic, &topic.partitions[0]), 1);
}

#[test]
fn in_sync_replicas_change_by_the_leader_that_knows_the_current_entry() {
    let mut image = three("1");
    let ask = |image: &Image, change: fn(&mut PartitionChange)| {
        let mut command = in_sync(image, &[1, 2]);
        if let Command::AlterPartition { changes, .. } = &mut command {
            change(&mut changes[0]);
        }
        command
    };
    let mut refuse = |change: fn(&mut PartitionChange), expected: &str| {
        let before = image.encode();
        let command = ask(&image, change);
        assert_eq!(answer(&mut image, &command), Err(expected.to_owned()));
        assert_eq!(image.encode(), before);
    };
    refuse(
        |c| c.topic = id(9),
        "there is no topic '00000000-0000-0000-0000-000000000009'",
    );
    refuse(
        |c| c.partition = PartitionIndex(5),
        "topic 't' has no partition 5",
    );
    refuse(
        |c| c.partition = PartitionIndex(-1),
        "topic 't' has no partition -1",
    );
    refuse(
        |c| c.leader_epoch.0 = -1,
        "leader epoch -1 is over: the partition is at 0",
    );
    refuse(
        |c| c.leader_epoch.0 = 1,
        "leader epoch 1 has not begun: the partition is at 0",
    );
    refuse(
        |c| c.partition_epoch = 7,
        "partition epoch 7 is not the current one, 0",
    );
    let in_sync = "must be the leader and other replicas, each once";
    refuse(
        |c| c.isr = ids(&[2, 3]),
        &format!("in-sync replicas [2, 3] {in_sync}"),
    );
    refuse(
        |c| c.isr = ids(&[1, 1]),
        &format!("in-sync replicas [1, 1] {in_sync}"),
    );
    refuse(
        |c| c.isr = ids(&[1, 4]),
        &format!("in-sync replicas [1, 4] {in_sync}"),
    );
    refuse(|c| c.isr = ids(&[]), &format!("in-sync replicas [] {in_sync}"));
    let mut other = ask(&image, |_| {});
    if let Command::AlterPartition {
        broker, broker_epoch, ..
    } = &mut other
    {
        (*broker, *broker_epoch) = (BrokerId(2), epoch(&image, 2));
    }
    assert_eq!(
        answer(&mut image, &other),
        Err("broker 2 does not lead the partition; broker 1 does".to_owned())
    );
}

#[test]
fn nobody_is_in_sync_who_is_fenced_or_has_begun_another_life() {
    let mut image = three("1");
    let before = epoch(&image, 3);
    step(&mut image, |image| fence(image, 3));
    applied(&mut image, &restart(3, 31, 99));
    let refused = "broker 3 cannot be in sync: it is fenced, or has registered again since it told the leader what it holds";
    assert_eq!(
        answer_to(&mut image, |image| in_sync(image, &[1, 2, 3])),
        Err(refused.to_owned())
    );
    step(&mut image, |image| unfence(image, 3));
    // What the leader knows of it is from its old disk.
    let with = |image: &Image, third: u64| {
        let mut command = in_sync(image, &[1, 2, 3]);
        if let Command::AlterPartition { changes, .. } = &mut command {
            changes[0].epochs = vec![epoch(image, 1), epoch(image, 2), third];
        }
        command
    };
    let old = with(&image, before);
    assert_eq!(answer(&mut image, &old), Err(refused.to_owned()));
    let new = with(&image, epoch(&image, 3));
    assert_eq!(answer(&mut image, &new), Ok(()));
    expect(&image, Some(1), 0, &[1, 2, 3], &[]);
}

#[test]
fn a_change_that_was_refused_is_not_taken_when_it_comes_again_late() {
    let mut image = three("1");
    step(&mut image, |image| fence(image, 3));
    let late = in_sync(&image, &[1, 2, 3]);
    answer(&mut image, &late).unwrap_err();
    step(&mut image, |image| unfence(image, 3));
    answer(&mut image, &late).unwrap_err();
    expect(&image, Some(1), 0, &[1, 2], &[]);
    // The leader asks anew, with what it knows by then.
    step(&mut image, |image| in_sync(image, &[1, 2, 3]));
    expect(&image, Some(1), 0, &[1, 2, 3], &[]);
}

#[test]
fn a_new_partition_is_in_sync_on_brokers_in_service() {
    let mut image = cluster(&[(1, None), (2, None), (3, None)]);
    step(&mut image, |image| fence(image, 1));
    refused(
        &mut image,
        &on(&[&[1, 4]], &[]),
        "partition 0: there is no broker 4 in the cluster",
    );
    refused(
        &mut image,
        &on(&[&[1]], &[]),
        "partition 0: all of its brokers [1] are fenced",
    );
    applied(&mut image, &on(&[&[1, 2, 3]], &[]));
    expect(&image, Some(2), 0, &[2, 3], &[]);
}
