//! Members come, share, go, and are fenced.

use super::*;

#[test]
fn members_come_often_while_their_group_changes_and_for_a_while_after() {
    let mut world = World::new(&[("t", 4)]);
    let mut members: Vec<Client> = (0..3).map(|n| Client::new(&format!("m{n}"), &["t"])).collect();
    for _ in 0..4 {
        for member in &mut members {
            let answer = member.beat(&mut world).unwrap();
            assert_eq!(answer.heartbeat_interval_ms, 100);
        }
    }
    assert_eq!(world.state(), "Stable");
    world.now_ms += 5000;
    for member in &mut members {
        assert_eq!(member.beat(&mut world).unwrap().heartbeat_interval_ms, 5000);
    }
    let answer = Client::new("m4", &["t"]).beat(&mut world).unwrap();
    assert_eq!(answer.heartbeat_interval_ms, 100);
    assert_eq!(members[0].beat(&mut world).unwrap().heartbeat_interval_ms, 100);
}

#[test]
fn the_first_member_gets_everything_and_a_second_one_its_half_after_it_was_given_back() {
    let mut world = World::new(&[("t", 4)]);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    let answer = a.beat(&mut world).unwrap();
    assert_eq!(
        (answer.epoch, answer.heartbeat_interval_ms, answer.member.as_str()),
        (1, 100, "a")
    );
    assert_eq!(answer.assignment, Some(partitions(&[("t", &[0, 1, 2, 3])])));
    assert_eq!(world.state(), "Stable");

    let answer = b.beat(&mut world).unwrap();
    assert_eq!((answer.epoch, answer.assignment), (2, Some(Partitions::new())));
    assert_eq!(
        (world.state(), world.member(&b).state),
        ("Reconciling", MemberState::UnreleasedPartitions)
    );

    let still_owned = a.owned.clone();
    let answer = a.beat(&mut world).unwrap();
    assert_eq!(answer.assignment, Some(partitions(&[("t", &[0, 1])])));
    assert_eq!(
        (answer.epoch, world.member(&a).state),
        (1, MemberState::UnrevokedPartitions)
    );
    let slow = ConsumerHeartbeat {
        owned: Some(
            still_owned
                .into_iter()
                .map(|(t, p)| (t, p.into_iter().collect()))
                .collect(),
        ),
        ..a.request()
    };
    assert_eq!(world.beat(&slow).unwrap().epoch, 1);
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 0, "the first member says that it has them still");

    assert_eq!(a.beat(&mut world).unwrap().epoch, 2);
    let answer = b.beat(&mut world).unwrap();
    assert_eq!(
        (answer.epoch, answer.assignment),
        (2, Some(partitions(&[("t", &[2, 3])])))
    );
    assert_eq!(world.state(), "Stable");
    let quiet = a.beat(&mut world).unwrap();
    assert_eq!(quiet.assignment, None, "nothing new is not told again");
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let mut world = World::new(&[("t", 4)]);
    let mut clients = [Client::new("a", &["t"]), Client::new("b", &["t"])];
    settle(&mut world, &mut clients);
    let before = world.log.len();
    for _ in 0..10 {
        world.pass(5000);
        clients[0].beat(&mut world).unwrap();
        clients[1].beat(&mut world).unwrap();
    }
    assert_eq!((world.log.len(), world.group().epoch), (before, 2));
}

#[test]
fn a_member_that_leaves_makes_room() {
    let mut world = World::new(&[("t", 4)]);
    let mut clients = [Client::new("a", &["t"]), Client::new("b", &["t"])];
    settle(&mut world, &mut clients);
    let [mut a, mut b] = clients;
    let answer = b.leave(&mut world, LEAVE_EPOCH).unwrap();
    assert_eq!((answer.epoch, answer.heartbeat_interval_ms), (LEAVE_EPOCH, 0));
    assert_eq!(world.state(), "Assigning");
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), world.state(), world.group().epoch), (4, "Stable", 3));
    assert_eq!(b.leave(&mut world, LEAVE_EPOCH), Err(GroupError::UnknownMemberId));
    a.leave(&mut world, LEAVE_EPOCH).unwrap();
    assert_eq!(world.state(), "Empty");
    world.pass(100_000);
    assert_eq!(world.groups.next_deadline(), None);
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut world = World::new(&[("t", 4)]);
    let mut clients = [Client::new("a", &["t"]), Client::new("b", &["t"])];
    settle(&mut world, &mut clients);
    let [mut a, mut b] = clients;
    for _ in 0..9 {
        world.pass(5000);
        a.beat(&mut world).unwrap();
    }
    assert_eq!((a.count(), world.group().members.len()), (4, 1));
    assert_eq!(b.beat(&mut world), Err(GroupError::UnknownMemberId));
    b.beat(&mut world).unwrap();
    assert_eq!(world.group().members.len(), 2);
}

#[test]
fn two_that_fall_silent_together_go_together() {
    let mut world = World::new(&[("t", 6), ("u", 1)]);
    let mut clients = [
        Client::new("a", &["t"]),
        Client::matching("b", "t.*"),
        Client::matching("c", "t.*"),
    ];
    settle(&mut world, &mut clients);
    world.pass(40_000);
    clients[0].beat(&mut world).unwrap();
    let (epoch, before) = (world.group().epoch, world.log.len());
    world.pass(5000);
    assert_eq!((world.group().epoch, world.group().members.len()), (epoch + 1, 1));
    let gone = |part: &Part| matches!(part, Part::Pattern(_));
    let tombstones = world.log[before..].iter();
    let tombstones =
        tombstones.filter(|r| r.value.is_none() && matches!(&r.key, Key::Consumer(key) if gone(&key.part)));
    assert_eq!(tombstones.count(), 1, "nobody has the pattern any more");
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_out() {
    let mut world = World::new(&[("t", 4)]);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat(&mut world).unwrap();
    b.beat(&mut world).unwrap();
    let stubborn = a.clone();
    assert_eq!(world.beat(&stubborn.request()).unwrap().epoch, 1);
    for _ in 0..11 {
        world.pass(5000);
        assert_eq!(world.beat(&stubborn.request()).unwrap().epoch, 1);
        b.beat(&mut world).unwrap();
        assert_eq!(b.count(), 0);
    }
    world.pass(5000);
    assert_eq!(world.beat(&stubborn.request()), Err(GroupError::UnknownMemberId));
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 4);
}

#[test]
fn epochs_that_are_not_the_members_own_are_fenced() {
    let mut world = World::new(&[("t", 4)]);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat(&mut world).unwrap();
    let ahead = ConsumerHeartbeat {
        epoch: 9,
        ..a.request()
    };
    assert_eq!(world.beat(&ahead), Err(GroupError::FencedMemberEpoch));
    b.beat(&mut world).unwrap();
    a.beat(&mut world).unwrap();
    // The answer that takes it to the next epoch is lost. It comes again with what it knows.
    let again = a.clone();
    let lost = world.beat(&a.request()).unwrap();
    assert_eq!((lost.epoch, again.epoch), (2, 1));
    assert_eq!(world.beat(&again.request()).unwrap().epoch, 2);
    let with_more = ConsumerHeartbeat {
        owned: Some(vec![(topic("t"), vec![PartitionIndex(3)])]),
        ..again.request()
    };
    assert_eq!(world.beat(&with_more), Err(GroupError::FencedMemberEpoch));
    // One that was fenced comes with nothing, under the same id.
    a.forget();
    assert_eq!(a.beat(&mut world).unwrap().epoch, 2);
    assert_eq!((a.count(), world.group().members.len()), (2, 2));
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = World::new(&[("t", 4)]);
    let fixed = |id: &str| Client {
        instance: Some("i".to_owned()),
        ..Client::new(id, &["t"])
    };
    let mut clients = [fixed("a"), Client::new("b", &["t"])];
    settle(&mut world, &mut clients);
    let [mut a, mut b] = clients;
    let had = a.owned.clone();
    let mut usurper = fixed("c");
    assert_eq!(usurper.beat(&mut world), Err(GroupError::UnreleasedInstanceId));
    assert_eq!(a.leave(&mut world, PAUSE_EPOCH).unwrap().epoch, PAUSE_EPOCH);
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 2, "what it had waits for it");
    let epoch = world.group().epoch;
    let answer = usurper.beat(&mut world).unwrap();
    assert_eq!(
        (answer.assignment, world.group().epoch),
        (Some(had), epoch),
        "nobody else notices"
    );
    assert_eq!(world.state(), "Stable");

    let late = ConsumerHeartbeat {
        epoch: 2,
        ..a.request()
    };
    assert_eq!(world.beat(&late), Err(GroupError::FencedInstanceId));
    assert_eq!(
        a.leave(&mut world, LEAVE_EPOCH),
        Err(GroupError::FencedInstanceId)
    );
    usurper.leave(&mut world, PAUSE_EPOCH).unwrap();
    world.pass(44_999);
    b.beat(&mut world).unwrap();
    assert_eq!(world.group().members.len(), 2);
    world.pass(1);
    b.beat(&mut world).unwrap();
    assert_eq!(
        (world.group().members.len(), b.count()),
        (1, 4),
        "it stayed away for too long"
    );
}

#[test]
fn a_restart_gives_members_a_session_to_come_back() {
    let mut world = World::new(&[("t", 4)]);
    let mut clients = [Client::new("a", &["t"]), Client::new("b", &["t"])];
    settle(&mut world, &mut clients);
    let mut world = world.restarted();
    assert_eq!(world.state(), "Stable");
    world.pass(44_000);
    clients[0].beat(&mut world).unwrap();
    assert_eq!(world.log.len(), world.restarted().log.len());
    world.pass(1000);
    assert_eq!(world.group().members.len(), 1);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let mut world = World::new(&[("t", 4)]);
    let join = Client::new("a", &["t"]).request();
    let cases = [
        ConsumerHeartbeat {
            group: String::new(),
            ..join.clone()
        },
        ConsumerHeartbeat {
            member: String::new(),
            ..join.clone()
        },
        ConsumerHeartbeat {
            instance: Some(String::new()),
            ..join.clone()
        },
        ConsumerHeartbeat {
            rack: Some(String::new()),
            ..join.clone()
        },
        ConsumerHeartbeat {
            rebalance_timeout_ms: -1,
            ..join.clone()
        },
        ConsumerHeartbeat {
            owned: None,
            ..join.clone()
        },
        ConsumerHeartbeat {
            topics: None,
            pattern: None,
            ..join.clone()
        },
        ConsumerHeartbeat {
            epoch: -3,
            ..join.clone()
        },
        ConsumerHeartbeat {
            epoch: PAUSE_EPOCH,
            ..join.clone()
        },
        ConsumerHeartbeat {
            client_id: "x".repeat(40_000),
            ..join.clone()
        },
    ];
    for request in cases {
        assert!(
            matches!(world.beat(&request), Err(GroupError::InvalidRequest(_))),
            "{request:?}"
        );
    }
    let assignor = Some("sticky".to_owned());
    let request = ConsumerHeartbeat {
        assignor,
        ..join.clone()
    };
    assert_eq!(world.beat(&request), Err(GroupError::UnsupportedAssignor));
    for epoch in [1, LEAVE_EPOCH] {
        let request = ConsumerHeartbeat {
            epoch,
            ..join.clone()
        };
        assert_eq!(world.beat(&request), Err(GroupError::GroupIdNotFound));
    }
    assert_eq!((world.state(), world.log.len()), ("Dead", 0));
    world.beat(&join).unwrap();
    let stranger = ConsumerHeartbeat {
        member: "b".to_owned(),
        epoch: 1,
        ..join.clone()
    };
    assert_eq!(world.beat(&stranger), Err(GroupError::UnknownMemberId));
    let unnamed = ConsumerHeartbeat {
        member: String::new(),
        unique: "u".to_owned(),
        ..join
    };
    assert_eq!(world.beat(&unnamed).unwrap().member, "u");
}

#[test]
fn a_full_group_takes_nobody() {
    let consumer = ConsumerConfig {
        members_max: 1,
        ..ConsumerConfig::default()
    };
    let mut world = World::with(
        GroupConfig {
            consumer,
            ..GroupConfig::default()
        },
        &[("t", 1)],
    );
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut world).unwrap();
    assert_eq!(
        Client::new("b", &["t"]).beat(&mut world),
        Err(GroupError::GroupMaxSizeReached)
    );
    a.beat(&mut world).unwrap();
}

#[test]
fn offsets_are_for_members_in_their_epoch() {
    let mut world = World::new(&[("t", 4)]);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat(&mut world).unwrap();
    assert_eq!(world.commit(a.identity(), "t", 0), Ok(()));
    let nobody = Identity {
        group: GROUP.to_owned(),
        generation: -1,
        ..Identity::default()
    };
    assert_eq!(
        world.commit(nobody.clone(), "t", 0),
        Err(GroupError::UnknownMemberId)
    );
    b.beat(&mut world).unwrap();
    let before = a.identity();
    for _ in 0..3 {
        a.beat(&mut world).unwrap();
        b.beat(&mut world).unwrap();
    }
    assert_eq!((before.generation, a.epoch), (1, 2));
    assert_eq!(
        world.commit(before.clone(), "t", 0),
        Ok(()),
        "it has it since the epoch before"
    );
    assert_eq!(
        world.commit(before.clone(), "t", 3),
        Err(GroupError::StaleMemberEpoch)
    );
    let new = Identity {
        generation: 1,
        ..b.identity()
    };
    assert_eq!(world.commit(new, "t", 3), Err(GroupError::StaleMemberEpoch));
    let ahead = Identity {
        generation: 3,
        ..b.identity()
    };
    assert_eq!(world.commit(ahead, "t", 3), Err(GroupError::StaleMemberEpoch));

    let fetch = |world: &World, member, epoch| world.groups.check_fetch(GROUP, member, epoch);
    assert_eq!(fetch(&world, None, -1), Ok(()));
    assert_eq!(fetch(&world, Some("a"), 2), Ok(()));
    assert_eq!(fetch(&world, Some("a"), 1), Err(GroupError::StaleMemberEpoch));
    assert_eq!(fetch(&world, Some("z"), 1), Err(GroupError::UnknownMemberId));
    assert_eq!(world.groups.check_fetch("other", Some("z"), 1), Ok(()));

    let partitions = [("t".to_owned(), 0)];
    let (answer, _) = world.groups.delete_offsets(GROUP, &partitions);
    assert_eq!(answer, Ok(vec![Err(GroupError::GroupSubscribedToTopic)]));
    assert_eq!(world.groups.delete_group(GROUP).0, Err(GroupError::NonEmptyGroup));
    let (retention_ms, now_ms) = (7 * 24 * 3_600_000, world.now_ms);
    assert_eq!(world.groups.expire(now_ms + retention_ms), Step::default());
    a.leave(&mut world, LEAVE_EPOCH).unwrap();
    b.leave(&mut world, LEAVE_EPOCH).unwrap();
    assert_eq!(world.commit(nobody, "t", 1), Ok(()));
    assert_eq!(world.groups.offsets(GROUP).len(), 2);
    let (deleted, step) = world.groups.delete_group(GROUP);
    world.run(step);
    assert_eq!((deleted, world.state()), (Ok(()), "Dead"));
    assert!(world.groups.live_records().is_empty() && world.restarted().groups.live_records().is_empty());
}

#[test]
fn an_empty_group_goes_with_its_last_offset() {
    let mut world = World::new(&[("t", 4)]);
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut world).unwrap();
    world.commit(a.identity(), "t", 0).unwrap();
    a.leave(&mut world, LEAVE_EPOCH).unwrap();
    let step = world.groups.expire(world.now_ms + 7 * 24 * 3_600_000 - 1);
    assert_eq!(step, Step::default());
    let step = world.groups.expire(world.now_ms + 7 * 24 * 3_600_000);
    world.run(step);
    assert_eq!((world.state(), world.groups.live_record_count()), ("Dead", 0));
}
