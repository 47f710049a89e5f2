//! Committing, telling, deleting and forgetting offsets.

use super::*;

#[test]
fn members_of_the_generation_commit_and_nobody_else() {
    let mut world = World::new();
    let a = world.stable("a");
    assert_eq!(world.commit(a.clone(), "t", 5), Ok(()));
    assert_eq!(
        world
            .groups
            .offset(GROUP, "t", 0)
            .map(|o| (o.offset, o.leader_epoch, o.metadata.as_str())),
        Some((5, 3, "note"))
    );
    assert_eq!(world.commit(nobody(), "t", 6), Err(GroupError::UnknownMemberId));
    let stale = Identity {
        generation: 7,
        ..a.clone()
    };
    assert_eq!(world.commit(stale, "t", 6), Err(GroupError::IllegalGeneration));
    let stranger = Identity {
        member: "x".to_owned(),
        ..a.clone()
    };
    assert_eq!(world.commit(stranger, "t", 6), Err(GroupError::UnknownMemberId));
    let b = world.start_join(join("b"));
    assert_eq!(
        world.commit(a.clone(), "t", 7),
        Ok(()),
        "before it joins again a member may still commit"
    );
    let again = world.start_join(again(&a));
    let who = identity(&world.joined(again));
    world.joined(b);
    assert_eq!(world.commit(who, "t", 8), Err(GroupError::RebalanceInProgress));
    assert_eq!(world.groups.offset(GROUP, "t", 0).map(|o| o.offset), Some(7));
}

#[test]
fn without_members_anybody_commits_and_the_group_begins_with_that() {
    let mut world = World::new();
    assert_eq!(
        world.commit(
            Identity {
                generation: 1,
                ..nobody()
            },
            "t",
            5
        ),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(world.commit(nobody(), "t", 5), Ok(()));
    assert_eq!(world.state(), State::Empty);
    let listed: Vec<_> = world
        .groups
        .list()
        .map(|g| (g.group.to_string(), g.protocol_type))
        .collect();
    assert_eq!(listed, [(GROUP.to_owned(), String::new())]);
    assert_eq!(world.restarted().groups.offsets(GROUP)[0].offset, 5);
}

#[test]
fn long_metadata_is_refused() {
    let mut world = World::with(GroupConfig {
        offset_metadata_bytes_max: 3,
        ..GroupConfig::default()
    });
    assert_eq!(
        world.commit(nobody(), "t", 5),
        Err(GroupError::OffsetMetadataTooLarge)
    );
    assert!(world.log.is_empty());
}

#[test]
fn offsets_of_consumed_topics_are_not_deleted() {
    let mut world = World::new();
    let a = world.stable("a");
    world.commit(a.clone(), "t", 5).unwrap();
    world.commit(a.clone(), "u", 6).unwrap();
    let both = [("t".to_owned(), 0), ("u".to_owned(), 0), ("u".to_owned(), 9)];
    let (answer, step) = world.groups.delete_offsets(GROUP, &both);
    assert_eq!(
        answer,
        Ok(vec![Err(GroupError::GroupSubscribedToTopic), Ok(()), Ok(())])
    );
    world.run(step);
    assert_eq!(world.groups.offsets(GROUP).len(), 1);
    assert_eq!(world.groups.delete_group(GROUP).0, Err(GroupError::NonEmptyGroup));
    world.leave(&a.member, None).unwrap();
    let (answer, step) = world.groups.delete_group(GROUP);
    assert_eq!(answer, Ok(()));
    world.run(step);
    assert_eq!(world.state(), State::Dead);
    assert_eq!(world.groups.live_record_count(), 0);
    assert_eq!(
        world.groups.delete_group(GROUP).0,
        Err(GroupError::GroupIdNotFound)
    );
    assert_eq!(
        world.groups.delete_offsets(GROUP, &both).0,
        Err(GroupError::GroupIdNotFound)
    );
}

#[test]
fn offsets_of_transforms_do_not_expire() {
    let mut world = World::new();
    let group = crate::cluster::transform_group("split");
    let who = Identity {
        group: group.clone(),
        generation: -1,
        ..Identity::default()
    };
    world.commit(who, "t", 5).unwrap();
    let later_ms = world.now_ms + 100 * GroupConfig::default().offsets_retention_ms;
    let step = world.groups.expire(later_ms);
    world.run(step);
    assert_eq!(world.groups.offsets(&group).len(), 1);
}

#[test]
fn offsets_expire_only_when_nobody_is_there_to_use_them() {
    let week = GroupConfig::default().offsets_retention_ms;
    let mut world = World::new();
    let a = world.stable("a");
    world.commit(a.clone(), "t", 5).unwrap();
    world.commit(a.clone(), "left", 6).unwrap();
    let expire = |world: &mut World, at_ms| {
        let step = world.groups.expire(at_ms);
        world.run(step);
        world
            .groups
            .offsets(GROUP)
            .iter()
            .map(|o| o.topic.to_string())
            .collect::<Vec<_>>()
    };
    let committed_ms = world.now_ms;
    assert_eq!(expire(&mut world, committed_ms + week - 1), ["left", "t"]);
    assert_eq!(
        expire(&mut world, committed_ms + week),
        ["t"],
        "a member still consumes t"
    );
    world.now_ms += week;
    world.leave(&a.member, None).unwrap();
    let empty_ms = world.now_ms;
    assert_eq!(expire(&mut world, empty_ms + week - 1), ["t"]);
    assert_eq!(expire(&mut world.restarted(), empty_ms + week - 1), ["t"]);
    assert!(expire(&mut world, empty_ms + week).is_empty());
    assert_eq!(
        world.state(),
        State::Dead,
        "a group without members and offsets is gone"
    );
}

#[test]
fn deleted_topics_are_forgotten() {
    let mut world = World::new();
    world.commit(nobody(), "t", 5).unwrap();
    let step = world.groups.forget_topic("t");
    world.run(step);
    assert!(world.groups.offsets(GROUP).is_empty());
}
