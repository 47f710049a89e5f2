//! What brokers set for all groups, and what a group sets for itself.

use super::*;
use crate::group::consumer::assignor::Assignor;

fn world_with(change: impl FnOnce(&mut ConsumerConfig)) -> World {
    let mut consumer = ConsumerConfig::default();
    change(&mut consumer);
    let config = GroupConfig {
        consumer,
        ..GroupConfig::default()
    };
    World::with(config, &[("t", 4)])
}

impl World {
    /// The group sets this for itself.
    fn set(&mut self, configs: &[(&str, &str)]) {
        let own = configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = BTreeMap::from([(GROUP.to_owned(), own.collect())]);
        self.groups.own_configs_changed(Arc::new(own));
    }

    fn has(&self, client: &Client) -> bool {
        self.group()
            .members
            .iter()
            .any(|member| *member.member == *client.id)
    }
}

#[test]
fn a_group_can_have_a_session_timeout_of_its_own() {
    for (own, survives_ms) in [(None, 45_000), (Some("50000"), 50_000)] {
        let mut world = world_with(|_| {});
        let own: Vec<_> = own
            .map(|ms| ("consumer.session.timeout.ms", ms))
            .into_iter()
            .collect();
        world.set(&own);
        let mut client = Client::new("a", &["t"]);
        client.beat(&mut world).unwrap();
        world.pass(survives_ms - 1);
        assert!(world.has(&client), "{own:?}");
        world.pass(1);
        assert!(!world.has(&client), "{own:?}");
        // Also of members that a coordinator found in its log.
        client.forget();
        client.beat(&mut world).unwrap();
        let mut later = World::with(world.groups.config().clone(), &[]);
        later.set(&own);
        world.log.iter().for_each(|record| later.groups.replay(record));
        later.now_ms = world.now_ms;
        later.groups.topics_changed(world.topics.clone());
        let step = later.groups.loaded(later.now_ms);
        later.run(step);
        later.pass(survives_ms - 1);
        assert!(later.has(&client), "{own:?}");
        later.pass(1);
        assert!(!later.has(&client), "{own:?}");
    }
}

#[test]
fn members_are_told_the_heartbeat_interval_of_their_group() {
    let mut world = world_with(|_| {});
    let mut client = Client::new("a", &["t"]);
    settle(&mut world, std::slice::from_mut(&mut client));
    world.pass(10_000);
    assert_eq!(client.beat(&mut world).unwrap().heartbeat_interval_ms, 5000);
    world.set(&[("consumer.heartbeat.interval.ms", "7000")]);
    world.pass(10_000);
    assert_eq!(client.beat(&mut world).unwrap().heartbeat_interval_ms, 7000);
    world.set(&[("consumer.heartbeat.interval.ms", "20000")]);
    assert_eq!(
        client.beat(&mut world).unwrap().heartbeat_interval_ms,
        15_000,
        "the limits of brokers may have changed since it was set"
    );
}

#[test]
fn who_comes_soon_after_an_assignment_waits_for_the_next() {
    let mut world = world_with(|_| {});
    world.set(&[("consumer.assignment.interval.ms", "1000")]);
    let mut clients = vec![
        Client::new("a", &["t"]),
        Client::new("b", &["t"]),
        Client::new("c", &["t"]),
    ];
    clients[0].beat(&mut world).unwrap();
    assert_eq!(clients[0].count(), 4, "who is alone does not wait");
    let made = world.group().target_epoch;
    world.pass(10);
    for client in &mut clients[1..] {
        let answer = client.beat(&mut world).unwrap();
        assert!(
            answer.heartbeat_interval_ms <= 100,
            "it hears soon of what it gets"
        );
    }
    assert_eq!((world.state(), world.group().target_epoch), ("Assigning", made));
    assert_eq!((clients[0].count(), clients[1].count()), (4, 0));
    world.pass(989);
    clients[0].beat(&mut world).unwrap();
    assert_eq!(world.group().target_epoch, made);
    world.pass(1);
    settle(&mut world, &mut clients);
    assert_eq!(
        world.group().target_epoch,
        world.group().epoch,
        "one assignment for both that came"
    );
    let mut counts: Vec<_> = clients.iter().map(Client::count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn only_assignors_that_brokers_have_can_be_asked_for_and_the_first_is_taken() {
    let mut world = world_with(|config| config.assignors = vec![Assignor::Range]);
    let mut client = Client::new("a", &["t"]);
    client.assignor = Some("uniform".to_owned());
    assert_eq!(client.beat(&mut world), Err(GroupError::UnsupportedAssignor));
    client.assignor = None;
    client.beat(&mut world).unwrap();
    assert_eq!(world.group().assignor, "range");
    let mut world = world_with(|config| config.assignors.reverse());
    client.forget();
    client.beat(&mut world).unwrap();
    assert_eq!(world.group().assignor, "range");
    client.assignor = Some("uniform".to_owned());
    client.beat(&mut world).unwrap();
    assert_eq!(world.group().assignor, "uniform");
}

#[test]
fn a_group_can_set_what_kafka_lets_it_set() {
    let config = ConsumerConfig::default();
    let check = |name: &str, value: &str| {
        let own = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        config.check_own(&own).map_err(|error| error.to_string())
    };
    for (name, min, max) in [
        ("consumer.session.timeout.ms", 45_000, 60_000),
        ("consumer.heartbeat.interval.ms", 5000, 15_000),
        ("consumer.assignment.interval.ms", 0, 15_000),
    ] {
        for value in [min, max] {
            assert_eq!(check(name, &value.to_string()), Ok(()));
        }
        for value in [min - 1, max + 1] {
            let error = check(name, &value.to_string()).unwrap_err();
            assert!(
                error.ends_with(&format!("is not within {min} and {max}")),
                "{error}"
            );
        }
        for value in ["", "soon", "1.5", "99999999999"] {
            assert!(check(name, value).is_err(), "{name}={value}");
        }
    }
    for name in ["", "group.consumer.session.timeout.ms", "share.isolation.level"] {
        assert_eq!(
            check(name, "50000"),
            Err(format!("groups have no config '{name}'"))
        );
    }
    let narrow = ConsumerConfig {
        heartbeat_interval_ms: 50_000,
        ..ConsumerConfig::default()
    };
    let own = BTreeMap::from([("consumer.session.timeout.ms".to_owned(), "50000".to_owned())]);
    let error = narrow.check_own(&own).unwrap_err().to_string();
    assert!(
        error.contains("not longer than the heartbeat interval"),
        "{error}"
    );
}
