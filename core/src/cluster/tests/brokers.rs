//! Stories of brokers that come, stop, lose their disk and go.

use super::scene::*;
use super::*;

#[test]
fn a_lone_broker_serves_at_once_and_keeps_its_epoch() {
    let mut image = Image::default();
    let lone = Broker {
        id: BrokerId(1),
        host: "here".to_owned(),
        ..Broker::default()
    };
    let register = |broker: &Broker| Command::RegisterBroker {
        broker: broker.clone(),
    };
    assert_eq!(
        applied(&mut image, &register(&lone)),
        Outcome::Broker { epoch: 1 }
    );
    applied(&mut image, &create("t", 1, 1, &[]));
    let moved = Broker {
        host: "there".to_owned(),
        ..lone
    };
    assert_eq!(
        applied(&mut image, &register(&moved)),
        Outcome::Broker { epoch: 1 }
    );
    assert_eq!(image.brokers()[&BrokerId(1)], Broker { epoch: 1, ..moved });
    expect(&image, Some(1), 0, &[1], &[]);
}

#[test]
fn a_lone_broker_grows_into_a_cluster() {
    let mut lone = Image::default();
    let broker_1 = Broker {
        id: BrokerId(1),
        ..Broker::default()
    };
    applied(&mut lone, &Command::RegisterBroker { broker: broker_1 });
    applied(&mut lone, &create("t", 1, 1, &[]));
    let mut image = Image::default();
    let bootstrap = Command::Bootstrap {
        cluster_id: "prod".to_owned(),
        image: Some(Box::new(lone.clone())),
    };
    assert_eq!(apply(&mut image, &bootstrap), Ok(Outcome::Done));
    assert_eq!((image.version(), image.cluster_id()), (3, Some("prod")));
    assert_eq!(image.feature_level(), FEATURE_LEVELS.0);
    expect(&image, None, 1, &[1], &[]);
    refused(
        &mut image,
        &bootstrap,
        "this is cluster 'prod' already: another broker joins it with --join",
    );
    applied(&mut image, &restart(1, 7, 1));
    step(&mut image, |image| unfence(image, 1));
    expect(&image, Some(1), 2, &[1], &[]);
    let second = Command::Bootstrap {
        cluster_id: "prod".to_owned(),
        image: Some(Box::new(Image::default())),
    };
    let mut begun = lone;
    refused(
        &mut begun,
        &second,
        "a cluster begins with its first command, and this quorum has applied 2 already",
    );
}

#[test]
fn a_broker_is_let_in_after_its_registration_by_the_name_of_its_life() {
    let mut image = cluster(&[(1, None)]);
    let outcome = applied(&mut image, &restart(2, 20, 2));
    assert_eq!(outcome, Outcome::Broker { epoch: 4 });
    assert!(image.brokers()[&BrokerId(2)].fenced);
    let early = Command::UnfenceBroker {
        id: BrokerId(2),
        epoch: 3,
    };
    refused(
        &mut image,
        &early,
        "broker 2 has epoch 4, not 3: it has registered again since",
    );
    step(&mut image, |image| unfence(image, 2));
    assert_eq!(
        attempt(&mut image, |image| unfence(image, 2)),
        Ok(Outcome::Unchanged)
    );
    // The answer was lost and it asks again: it is the same life.
    assert_eq!(
        applied(&mut image, &restart(2, 20, 2)),
        Outcome::Broker { epoch: 4 }
    );
    assert!(!image.brokers()[&BrokerId(2)].fenced);
    let unknown = Command::FenceBroker {
        id: BrokerId(9),
        epoch: 1,
    };
    refused(
        &mut image,
        &unknown,
        "there is no broker 9 in the cluster; 'millstream cluster brokers' lists them",
    );
    let alone = Command::RegisterBroker {
        broker: Broker {
            peer: None,
            ..broker(3, None)
        },
    };
    refused(
        &mut image,
        &alone,
        "broker 3 has no cluster address: start it with --voters or --join to be part of the cluster",
    );
}

#[test]
fn two_brokers_with_one_id_are_told_apart_by_their_disks() {
    let mut image = cluster(&[(1, None), (2, None)]);
    refused(
        &mut image,
        &restart(2, 99, 99),
        "broker id 2 is in use by a broker with another disk at localhost:9092: give this one another --node-id, \
         or stop that one first",
    );
    // The same disk: it was killed and started again, faster than anybody noticed.
    assert_eq!(
        applied(&mut image, &restart(2, 21, 2)),
        Outcome::Broker { epoch: 6 }
    );
    // Fenced: it was silent, so this may well be its new disk.
    assert_eq!(
        applied(&mut image, &restart(2, 99, 99)),
        Outcome::Broker { epoch: 7 }
    );
}

#[test]
fn a_leader_that_starts_again_does_not_lead_on() {
    let mut image = three("1");
    applied(&mut image, &restart(1, 11, 1));
    expect(&image, Some(2), 1, &[2, 3], &[]);
    step(&mut image, |image| unfence(image, 1));
    expect(&image, Some(2), 1, &[2, 3], &[]);
    assert_eq!(t(&image).partition_epoch, 1);
}

#[test]
fn a_lost_disk_is_in_sync_nowhere_even_if_it_was_the_last() {
    let mut image = three("1");
    step(&mut image, |image| fence(image, 2));
    step(&mut image, |image| fence(image, 3));
    step(&mut image, |image| fence(image, 1));
    expect(&image, None, 1, &[1], &[]);
    applied(&mut image, &restart(1, 11, 99));
    step(&mut image, |image| unfence(image, 1));
    expect(&image, None, 1, &[], &[]);
    assert_eq!(t(&image).lost, ids(&[1]));
    // The others may lack what was acknowledged: they do not lead by themselves.
    step(&mut image, |image| unfence(image, 2));
    expect(&image, None, 1, &[], &[]);
    let unclean = Command::ElectLeaders {
        kind: Election::Unclean,
        partitions: None,
    };
    applied(&mut image, &unclean);
    expect(&image, Some(2), 2, &[2], &[]);
    assert_eq!(t(&image).lost, []);
}

#[test]
fn a_broker_goes_when_it_is_empty_and_stopped() {
    let mut image = three("1");
    let remove = Command::RemoveBroker { id: BrokerId(3) };
    refused(
        &mut image,
        &remove,
        "broker 3 still holds 1 replicas: empty it with 'millstream cluster drain 3' and \
         'millstream cluster rebalance' before it is removed",
    );
    let drain = Command::DrainBroker {
        id: BrokerId(3),
        draining: true,
    };
    applied(&mut image, &drain);
    assert_eq!(apply(&mut image, &drain), Ok(Outcome::Unchanged));
    applied(&mut image, &restart(3, 31, 3));
    assert!(
        image.brokers()[&BrokerId(3)].draining,
        "it drains on after a restart"
    );
    applied(&mut image, &Command::DeleteTopic { id: id(1) });
    step(&mut image, |image| unfence(image, 3));
    refused(
        &mut image,
        &remove,
        "broker 3 is running: stop it before it is removed",
    );
    step(&mut image, |image| fence(image, 3));
    applied(&mut image, &remove);
    assert!(!image.brokers().contains_key(&BrokerId(3)));
}

#[test]
fn the_feature_level_rises_when_all_brokers_can_and_never_falls() {
    let mut image = cluster(&[(1, None), (2, None)]);
    let level = |level| Command::SetFeatureLevel { level };
    refused(
        &mut image,
        &level(2),
        "feature level 2 needs all brokers, but broker 1 can run levels 1 to 1: upgrade it, or remove it from the cluster",
    );
    for id in [1, 2] {
        let newer = Broker {
            features: (1, 2),
            incarnation: 50,
            ..broker(id, None)
        };
        applied(&mut image, &Command::RegisterBroker { broker: newer });
    }
    applied(&mut image, &level(2));
    refused(
        &mut image,
        &level(1),
        "the cluster is at feature level 2 and cannot go back to 1",
    );
    refused(
        &mut image,
        &restart(1, 60, 1),
        "broker 1 can run feature levels 1 to 1, but the cluster is at level 2: start it with another version",
    );
}

#[test]
fn brokers_have_configurations_of_their_own_and_in_common() {
    let mut image = cluster(&[(1, None)]);
    let set = |broker: Option<i32>, value: &str| Command::AlterBrokerConfigs {
        broker: broker.map(BrokerId),
        update: ConfigUpdate::Change(vec![ConfigChange::Set(
            "log.retention.ms".to_owned(),
            value.to_owned(),
        )]),
    };
    applied(&mut image, &set(None, "5"));
    applied(&mut image, &set(Some(1), "6"));
    assert_eq!(image.broker_config(None)["log.retention.ms"], "5");
    assert_eq!(image.broker_config(Some(BrokerId(1)))["log.retention.ms"], "6");
    assert_eq!(apply(&mut image, &set(None, "5")), Ok(Outcome::Unchanged));
    refused(
        &mut image,
        &set(Some(2), "5"),
        "there is no broker 2 in the cluster; 'millstream cluster brokers' lists them",
    );
    let nothing = Command::AlterBrokerConfigs {
        broker: Some(BrokerId(1)),
        update: ConfigUpdate::Replace(BTreeMap::new()),
    };
    applied(&mut image, &nothing);
    assert!(image.broker_config(Some(BrokerId(1))).is_empty());
}

#[test]
fn groups_have_configurations_and_need_not_be_there() {
    let mut image = cluster(&[(1, None)]);
    let change = |name: &str, value: Option<&str>| {
        let change = match value {
            Some(value) => ConfigChange::Set(name.to_owned(), value.to_owned()),
            None => ConfigChange::Delete(name.to_owned()),
        };
        let (group, update) = ("g".to_owned(), ConfigUpdate::Change(vec![change]));
        Command::AlterGroupConfigs { group, update }
    };
    let before = image.encode();
    applied(&mut image, &change("consumer.session.timeout.ms", Some("50000")));
    assert_eq!(image.group_config("g")["consumer.session.timeout.ms"], "50000");
    assert!(image.group_config("h").is_empty());
    let again = change("consumer.session.timeout.ms", Some("50000"));
    assert_eq!(apply(&mut image, &again), Ok(Outcome::Unchanged));
    assert_eq!(Image::decode(&image.encode()).unwrap(), image);
    let same = image.group_configs().clone();
    applied(
        &mut image,
        &Command::DrainBroker {
            id: BrokerId(1),
            draining: true,
        },
    );
    assert!(
        Arc::ptr_eq(&same, image.group_configs()),
        "what does not change is the same object"
    );
    applied(
        &mut image,
        &Command::DrainBroker {
            id: BrokerId(1),
            draining: false,
        },
    );
    applied(&mut image, &change("consumer.session.timeout.ms", None));
    assert!(
        image.group_configs().is_empty(),
        "a group that sets nothing is forgotten"
    );
    assert_eq!(before.len(), image.encode().len(), "and takes no room");
}
