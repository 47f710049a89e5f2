//! What members want changes, and so do the topics that there are.

use super::*;

#[test]
fn a_member_that_wants_other_topics_gives_up_the_old_ones_first() {
    let mut world = World::new(&[("t", 2), ("u", 3)]);
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut world).unwrap();
    a.topics = vec!["u".to_owned()];
    let answer = a.beat(&mut world).unwrap();
    assert_eq!((answer.epoch, answer.assignment), (1, Some(Partitions::new())));
    assert_eq!(world.member(&a).state, MemberState::UnrevokedPartitions);
    let answer = a.beat(&mut world).unwrap();
    assert_eq!(
        (answer.epoch, answer.assignment),
        (2, Some(partitions(&[("u", &[0, 1, 2])])))
    );
    a.topics = Vec::new();
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.count(), 0);
}

#[test]
fn partitions_that_are_added_are_shared() {
    let mut world = World::new(&[("t", 2)]);
    let mut clients = [Client::new("a", &["t"]), Client::new("b", &["t"])];
    settle(&mut world, &mut clients);
    let before = world.log.len();
    // Another version of the same topics is no news.
    world.change_topics(&[("t", 2)]);
    clients[0].beat(&mut world).unwrap();
    assert_eq!(world.log.len(), before);
    // Nor is a topic that nobody wants.
    world.change_topics(&[("t", 2), ("other", 7)]);
    clients[0].beat(&mut world).unwrap();
    assert_eq!(world.log.len(), before);
    world.change_topics(&[("t", 6), ("other", 7)]);
    settle(&mut world, &mut clients);
    assert_eq!((clients[0].count(), clients[1].count()), (3, 3));
}

#[test]
fn nobody_has_to_give_anything_back_before_the_topics_are_known() {
    let mut world = World::new(&[("t", 2)]);
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut world).unwrap();
    let mut groups = Groups::new(GroupConfig::default());
    world.log.iter().for_each(|record| groups.replay(record));
    let step = groups.loaded(world.now_ms);
    assert_eq!(step, Step::default());
    let (answer, step) = groups.consumer_heartbeat(world.now_ms, &a.request());
    assert_eq!(
        (answer, step),
        (Err(GroupError::CoordinatorLoadInProgress), Step::default())
    );
}

#[test]
fn topics_that_are_deleted_or_not_there_yet_count_when_they_are() {
    let mut world = World::new(&[("t", 2)]);
    let mut a = Client::new("a", &["t", "later"]);
    a.beat(&mut world).unwrap();
    assert_eq!(a.count(), 2);
    world.change_topics(&[("t", 2), ("later", 1)]);
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.owned, partitions(&[("t", &[0, 1]), ("later", &[0])]));
    world.change_topics(&[("later", 1)]);
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.owned, partitions(&[("later", &[0])]));
    // Another topic of that name has another id.
    let facts = TopicFacts {
        id: topic("new"),
        partitions: 1,
    };
    world.topics = Arc::new(Topics::new(99, [("later".into(), facts)]));
    world.groups.topics_changed(world.topics.clone());
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.owned, partitions(&[("new", &[0])]));
}

#[test]
fn a_pattern_means_the_topics_that_match_and_those_that_come() {
    let mut world = World::new(&[("t-1", 1), ("t-2", 1), ("xt-3", 1), ("__consumer_offsets", 50)]);
    let mut a = Client::matching("a", r"t-\d");
    a.beat(&mut world).unwrap();
    assert_eq!(a.owned, partitions(&[("t-1", &[0]), ("t-2", &[0])]));
    let mut both = [a, Client::matching("b", ".*")];
    settle(&mut world, &mut both);
    let [mut a, mut everything] = both;
    assert!(everything.count() > 0 && !everything.owned.contains_key(&topic("__consumer_offsets")));
    everything.leave(&mut world, LEAVE_EPOCH).unwrap();
    settle(&mut world, std::slice::from_mut(&mut a));
    world.change_topics(&[("t-1", 1), ("t-4", 2)]);
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.owned, partitions(&[("t-1", &[0]), ("t-4", &[0, 1])]));
    // After a restart the same topics have another version: that is written, and nothing else.
    let mut world = world.restarted();
    world.topics = Arc::new(topics(1000, &[("t-1", 1), ("t-4", 2)]));
    world.groups = Groups::new(GroupConfig::default());
    world.log.iter().for_each(|record| world.groups.replay(record));
    world.groups.topics_changed(world.topics.clone());
    let (epoch, before) = (world.group().epoch, world.log.len());
    a.beat(&mut world).unwrap();
    a.beat(&mut world).unwrap();
    assert_eq!((world.group().epoch, world.log.len()), (epoch, before + 1));
}

#[test]
fn a_pattern_goes_with_the_last_member_that_has_it() {
    let mut world = World::new(&[("t", 2), ("u", 2)]);
    let mut clients = [Client::matching("a", "t"), Client::matching("b", "t")];
    settle(&mut world, &mut clients);
    let patterns = |world: &World| {
        let records = world.groups.live_records();
        let is_pattern = |record: &&Record| matches!(&record.key, Key::Consumer(key) if matches!(key.part, Part::Pattern(_)));
        records.iter().filter(is_pattern).count()
    };
    assert_eq!(patterns(&world), 1);
    clients[0].pattern = Some("u".to_owned());
    settle(&mut world, &mut clients);
    assert_eq!(patterns(&world), 2);
    assert_eq!(
        (clients[0].owned.clone(), clients[1].owned.clone()),
        (partitions(&[("u", &[0, 1])]), partitions(&[("t", &[0, 1])]))
    );
    clients[0].pattern = None;
    clients[0].topics = vec!["t".to_owned()];
    settle(&mut world, &mut clients);
    assert_eq!(patterns(&world), 1);
    clients[1].leave(&mut world, LEAVE_EPOCH).unwrap();
    assert_eq!(patterns(&world), 0);
    let mut bad = Client::matching("c", "(");
    assert_eq!(bad.beat(&mut world), Err(GroupError::InvalidRegularExpression));
    assert_eq!(world.group().members.len(), 1);
}

#[test]
fn the_assignor_is_the_one_that_most_members_prefer() {
    let mut world = World::new(&[("t", 3), ("u", 3)]);
    let prefer = |id: &str, assignor: &str| Client {
        assignor: Some(assignor.to_owned()),
        ..Client::new(id, &["t", "u"])
    };
    let mut clients = [Client::new("a", &["t", "u"]), prefer("b", "range")];
    settle(&mut world, &mut clients);
    assert_eq!(world.group().assignor, "range");
    assert_eq!((clients[0].count(), clients[1].count()), (4, 2));
    let mut third = prefer("c", "uniform");
    third.beat(&mut world).unwrap();
    assert_eq!(world.group().assignor, "uniform");
}

#[test]
fn a_group_is_described_as_kafka_does() {
    let mut world = World::new(&[("t", 2)]);
    let mut a = Client {
        instance: Some("i".to_owned()),
        ..Client::new("a", &["t"])
    };
    a.beat(&mut world).unwrap();
    let group = world.group();
    assert_eq!(
        (group.state, group.epoch, group.target_epoch, group.assignor),
        (ConsumerState::Stable, 1, 1, "uniform")
    );
    let member = &group.members[0];
    assert_eq!(
        (&*member.member, member.instance.as_deref(), member.epoch),
        ("a", Some("i"), 1)
    );
    assert_eq!((member.client_id.as_str(), member.is_classic), ("client", false));
    let assigned = [AssignedTopic {
        id: topic("t"),
        name: "t".into(),
        partitions: vec![PartitionIndex(0), PartitionIndex(1)],
    }];
    assert_eq!(
        (&member.assigned[..], &member.target[..]),
        (&assigned[..], &assigned[..])
    );
    assert_eq!(world.groups.describe(GROUP), None, "it is no classic group");
    let listed: Vec<_> = world.groups.list().collect();
    assert_eq!(
        (listed[0].protocol_type.as_str(), listed[0].state.group_type()),
        ("consumer", "consumer")
    );
}
