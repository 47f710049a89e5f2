//! Joining, syncing, staying, leaving.

use super::*;

#[test]
fn the_first_members_wait_for_each_other_and_one_leads() {
    let mut world = World::new();
    let a = world.start_join(join("a"));
    world.pass(2000);
    let b = world.start_join(join("b"));
    assert!(world.waits(a) && world.waits(b));
    world.pass(2999);
    assert!(
        world.waits(a),
        "somebody came during the first delay, so it begins anew with them"
    );
    world.pass(1);
    let (a, b) = (world.joined(a), world.joined(b));
    assert_eq!(
        (a.generation, a.leader.as_str(), a.member_id.as_str()),
        (1, "a-1", "a-1")
    );
    assert_eq!(
        (b.leader.as_str(), b.members.len(), a.members.len()),
        ("a-1", 0, 2)
    );
    assert_eq!(
        (a.protocol.as_deref(), a.protocol_type.as_deref()),
        (Some("range"), Some("consumer"))
    );
    assert_eq!(world.state(), State::CompletingRebalance);

    let sync_b = world.start_sync(identity(&b), &[]);
    assert!(world.waits(sync_b), "only the leader knows the assignment");
    let sync_a = world.start_sync(identity(&a), &[("a-1", "left"), ("b-1", "right")]);
    assert_eq!(
        (world.synced(sync_a), world.synced(sync_b)),
        (Ok("left".to_owned()), Ok("right".to_owned()))
    );
    assert_eq!((world.state(), world.log.len()), (State::Stable, 1));
    assert_eq!(world.heartbeat(&identity(&b)), Ok(()));
    let group = world.groups.describe(GROUP).unwrap();
    assert_eq!(
        (group.protocol.as_str(), &*group.members[1].assignment),
        ("range", &b"right"[..])
    );
}

#[test]
fn answers_to_a_sync_come_with_the_record_they_depend_on() {
    let mut world = World::new();
    let a = world.start_join(join("a"));
    world.pass(3000);
    let who = identity(&world.joined(a));
    let request = SyncRequest {
        who,
        assignments: BTreeMap::from([("a-1".to_owned(), bytes("x"))]),
        ..SyncRequest::default()
    };
    let step = world.groups.sync(world.now_ms, &request, Token(99));
    assert_eq!((step.records.len(), step.responses.len()), (1, 1));
    assert_eq!(
        world.state(),
        State::CompletingRebalance,
        "only the replayed record makes the group stable"
    );
    let (_, response) = step.responses[0].clone();
    let failed = response.failed(GroupError::CoordinatorNotAvailable);
    assert!(matches!(failed, Response::Sync(r) if r.error == Some(GroupError::CoordinatorNotAvailable)));
    // The write failed: the leader assigns again.
    let step = world.groups.sync(world.now_ms, &request, Token(100));
    world.run(step);
    assert_eq!(world.state(), State::Stable);
}

#[test]
fn a_third_member_makes_the_others_join_again() {
    let mut world = World::new();
    let a = world.stable("a");
    let c = world.start_join(join("c"));
    assert_eq!(world.state(), State::PreparingRebalance);
    assert_eq!(world.heartbeat(&a), Err(GroupError::RebalanceInProgress));
    let a2 = world.start_join(again(&a));
    let (a2, c) = (world.joined(a2), world.joined(c));
    assert_eq!((a2.generation, c.generation, c.leader), (2, 2, a.member.clone()));
    assert_eq!(world.heartbeat(&a), Err(GroupError::IllegalGeneration));
    let old = world.start_sync(a, &[]);
    assert_eq!(world.synced(old), Err(GroupError::IllegalGeneration));
}

#[test]
fn a_silent_member_is_out_and_the_group_ends_empty() {
    let mut world = World::new();
    let a = world.stable("a");
    world.pass(9999);
    assert_eq!(world.heartbeat(&a), Ok(()));
    world.pass(10_000);
    assert_eq!(world.state(), State::Empty);
    assert_eq!(world.heartbeat(&a), Err(GroupError::UnknownMemberId));
    assert_eq!(world.groups.next_deadline(), None);
    let Entry::Plain(empty) = &world.log[1] else {
        panic!("groups are not written in transactions");
    };
    assert!(
        matches!(&empty.value, Some(Value::Group(g)) if g.generation == 2 && g.members.is_empty() && g.protocol.is_none())
    );
}

#[test]
fn a_member_that_does_not_join_again_is_out_after_its_rebalance_timeout() {
    let mut world = World::new();
    let a = world.stable("a");
    let b = world.start_join(join("b"));
    for _ in 0..11 {
        world.pass(5000);
        assert_eq!(world.heartbeat(&a), Err(GroupError::RebalanceInProgress));
        assert!(world.waits(b));
    }
    world.pass(5000);
    let b = world.joined(b);
    assert_eq!((b.generation, b.leader.as_str(), b.members.len()), (2, "b-1", 1));
    assert_eq!(world.heartbeat(&a), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_member_that_never_asks_for_its_assignment_is_out() {
    let mut world = World::new();
    let a = world.start_join(join("a"));
    world.pass(1000);
    let b = world.start_join(join("b"));
    world.pass(6000);
    let (a, b) = (identity(&world.joined(a)), identity(&world.joined(b)));
    let sync = world.start_sync(a.clone(), &[]);
    assert_eq!(world.synced(sync), Ok(String::new()));
    for _ in 0..11 {
        world.pass(5000);
        assert_eq!((world.heartbeat(&a), world.heartbeat(&b)), (Ok(()), Ok(())));
    }
    world.pass(5000);
    assert_eq!(
        world.heartbeat(&b),
        Err(GroupError::UnknownMemberId),
        "heartbeats alone do not keep it"
    );
    assert_eq!(world.heartbeat(&a), Err(GroupError::RebalanceInProgress));
}

#[test]
fn new_clients_are_told_their_id_first_and_forgotten_if_they_do_not_come_back() {
    let mut world = World::new();
    let request = JoinRequest {
        knows_required_ids: true,
        ..join("a")
    };
    let token = world.start_join(request.clone());
    let answer = world.joined(token);
    assert_eq!(
        (answer.error, answer.member_id.as_str()),
        (Some(GroupError::MemberIdRequired), "a-1")
    );
    assert_eq!(world.state(), State::Empty);
    world.pass(10_000);
    assert_eq!(world.state(), State::Dead);
    let token = world.start_join(JoinRequest {
        member: "a-1".to_owned(),
        ..request.clone()
    });
    assert_eq!(world.joined(token).error, Some(GroupError::UnknownMemberId));

    let token = world.start_join(request.clone());
    world.joined(token);
    let token = world.start_join(JoinRequest {
        member: "a-1".to_owned(),
        ..request
    });
    world.pass(3000);
    assert_eq!(world.joined(token).generation, 1);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let mut world = World::new();
    let cases = [
        (
            JoinRequest {
                group: String::new(),
                ..join("a")
            },
            GroupError::InvalidGroupId,
        ),
        (
            JoinRequest {
                session_timeout_ms: 5999,
                ..join("a")
            },
            GroupError::InvalidSessionTimeout,
        ),
        (
            JoinRequest {
                session_timeout_ms: 1_800_001,
                ..join("a")
            },
            GroupError::InvalidSessionTimeout,
        ),
        (
            JoinRequest {
                protocols: Vec::new(),
                ..join("a")
            },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            JoinRequest {
                protocol_type: String::new(),
                ..join("a")
            },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            JoinRequest {
                client_id: "x".repeat(40_000),
                ..join("a")
            },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            JoinRequest {
                member: "stranger".to_owned(),
                ..join("a")
            },
            GroupError::UnknownMemberId,
        ),
    ];
    for (request, error) in cases {
        let token = world.start_join(request);
        assert_eq!(world.joined(token).error, Some(error));
        assert_eq!(world.state(), State::Dead, "nothing is left of a refused request");
    }
    world.stable("a");
    let token = world.start_join(JoinRequest {
        protocols: vec![("sticky".to_owned(), bytes(""))],
        ..join("b")
    });
    assert_eq!(
        world.joined(token).error,
        Some(GroupError::InconsistentGroupProtocol)
    );
    let token = world.start_join(JoinRequest {
        protocol_type: "connect".to_owned(),
        ..join("b")
    });
    assert_eq!(
        world.joined(token).error,
        Some(GroupError::InconsistentGroupProtocol)
    );
    let stranger = Identity {
        group: "other".to_owned(),
        ..Identity::default()
    };
    assert_eq!(world.heartbeat(&stranger), Err(GroupError::UnknownMemberId));
    assert_eq!(world.leave("stranger", None), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_full_group_takes_nobody() {
    let mut world = World::with(GroupConfig {
        members_max: 1,
        ..GroupConfig::default()
    });
    world.stable("a");
    let token = world.start_join(join("b"));
    assert_eq!(world.joined(token).error, Some(GroupError::GroupMaxSizeReached));
    assert_eq!(world.state(), State::Stable);
}

#[test]
fn the_assignor_is_the_one_that_most_prefer_and_all_know() {
    let mut world = World::new();
    let knows = |name: &str, protocols: &[&str]| JoinRequest {
        protocols: protocols.iter().map(|p| ((*p).to_owned(), bytes(p))).collect(),
        ..join(name)
    };
    let a = world.start_join(knows("a", &["only-a", "range", "sticky"]));
    world.start_join(knows("b", &["sticky", "range"]));
    world.start_join(knows("c", &["sticky", "range"]));
    world.pass(60_000);
    let a = world.joined(a);
    assert_eq!(a.protocol.as_deref(), Some("sticky"));
    assert!(a.members.iter().all(|member| *member.metadata == *b"sticky"));
}

#[test]
fn a_member_that_missed_an_answer_gets_it_again() {
    let mut world = World::new();
    let a = world.start_join(join("a"));
    world.pass(3000);
    let first = world.joined(a);
    let who = identity(&first);
    let token = world.start_join(again(&who));
    assert_eq!(world.joined(token), first);
    let token = world.start_sync(who.clone(), &[("a-1", "x")]);
    assert_eq!(world.synced(token), Ok("x".to_owned()));
    let token = world.start_sync(who.clone(), &[]);
    assert_eq!(world.synced(token), Ok("x".to_owned()));
    // Once stable, a leader that joins again wants another assignment.
    let token = world.start_join(again(&who));
    assert_eq!(world.joined(token).generation, 2);
}

#[test]
fn a_request_that_is_sent_twice_is_answered_twice() {
    let mut world = World::new();
    let a = world.stable("a");
    let b = world.stable_beside(&a);
    let first = world.start_join(again(&a));
    let second = world.start_join(again(&a));
    assert_eq!(world.joined(first).error, Some(GroupError::RebalanceInProgress));
    let b = world.start_join(again(&b));
    assert_eq!(
        (world.joined(second).generation, world.joined(b).generation),
        (3, 3)
    );
}

impl World {
    fn stable_beside(&mut self, a: &Identity) -> Identity {
        let b = self.start_join(join("b"));
        let a = self.start_join(again(a));
        let (a, b) = (identity(&self.joined(a)), identity(&self.joined(b)));
        let token = self.start_sync(a, &[]);
        self.synced(token).unwrap();
        let token = self.start_sync(b.clone(), &[]);
        self.synced(token).unwrap();
        b
    }
}

#[test]
fn a_leaving_member_makes_room_at_once() {
    let mut world = World::new();
    let a = world.stable("a");
    let b = world.start_join(join("b"));
    assert_eq!(world.leave(&a.member, None), Ok(()));
    let b = identity(&world.joined(b));
    assert_eq!(world.leave(&b.member, None), Ok(()));
    assert_eq!(
        (world.state(), world.heartbeat(&b)),
        (State::Empty, Err(GroupError::UnknownMemberId))
    );
}

fn static_join(instance: &str, unique: &str) -> JoinRequest {
    JoinRequest {
        instance: Some(instance.to_owned()),
        unique: unique.to_owned(),
        knows_required_ids: true,
        can_skip_assignment: true,
        ..join("c")
    }
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self() {
    let mut world = World::new();
    let token = world.start_join(static_join("i", "1"));
    world.pass(3000);
    let joined = world.joined(token);
    let mut who = identity(&joined);
    who.instance = Some("i".to_owned());
    assert_eq!(who.member, "i-1");
    let token = world.start_sync(who.clone(), &[("i-1", "mine")]);
    assert_eq!(world.synced(token), Ok("mine".to_owned()));

    let token = world.start_join(static_join("i", "2"));
    let back = world.joined(token);
    assert_eq!(
        (
            back.generation,
            back.member_id.as_str(),
            back.leader.as_str(),
            back.skip_assignment
        ),
        (1, "i-2", "i-2", true)
    );
    assert_eq!((world.state(), back.members.len()), (State::Stable, 1));
    assert_eq!(world.heartbeat(&who), Err(GroupError::FencedInstanceId));
    let new = Identity {
        member: "i-2".to_owned(),
        ..who.clone()
    };
    let token = world.start_sync(new.clone(), &[]);
    assert_eq!(world.synced(token), Ok("mine".to_owned()));
    assert_eq!(world.commit(who, "t", 1), Err(GroupError::FencedInstanceId));

    let mut world = world.restarted();
    assert_eq!(world.heartbeat(&new), Ok(()), "the new id was written");
    assert_eq!(world.leave("i-1", Some("i")), Err(GroupError::FencedInstanceId));
    assert_eq!(world.leave("", Some("j")), Err(GroupError::UnknownMemberId));
    assert_eq!(world.leave("", Some("i")), Ok(()));
    assert_eq!(world.state(), State::Empty);
}

#[test]
fn an_old_static_leader_is_kept_from_assigning_again() {
    let mut world = World::new();
    let old_client = |unique| JoinRequest {
        can_skip_assignment: false,
        ..static_join("i", unique)
    };
    let token = world.start_join(old_client("1"));
    world.pass(3000);
    let who = Identity {
        instance: Some("i".to_owned()),
        ..identity(&world.joined(token))
    };
    let token = world.start_sync(who, &[("i-1", "mine")]);
    world.synced(token).unwrap();
    let token = world.start_join(old_client("2"));
    let back = world.joined(token);
    assert_eq!(
        (back.leader.as_str(), back.member_id.as_str(), back.members.len()),
        ("i-1", "i-2", 0)
    );
}

#[test]
fn a_restart_keeps_the_generation_and_gives_members_a_session_to_return() {
    let mut world = World::new();
    let a = world.stable("a");
    let mut world = world.restarted();
    world.pass(9000);
    assert_eq!(world.heartbeat(&a), Ok(()));
    let mut later = world.restarted();
    later.pass(10_000);
    assert_eq!(
        (later.state(), later.heartbeat(&a)),
        (State::Empty, Err(GroupError::UnknownMemberId))
    );
    // An empty group that had generations does not wait for the initial delay again.
    let token = later.start_join(join("b"));
    assert_eq!(later.joined(token).generation, 3);
}

#[test]
fn a_coordinator_that_stops_answers_everybody() {
    let mut world = World::new();
    let a = world.start_join(join("a"));
    let step = world.groups.close(GroupError::NotCoordinator);
    world.run(step);
    assert_eq!(world.joined(a).error, Some(GroupError::NotCoordinator));
}
