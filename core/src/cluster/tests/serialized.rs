//! What is written must be read: by this version, and by those that come after.

use super::scene::*;
use super::*;

#[test]
fn an_image_from_before_clusters_loads() {
    let old = r#"{"version":3,"brokers":{"1":{"id":1,"host":"h","port":9092,"rack":null}},"topics":{"t":{"name":"t",
        "id":"00000000-0000-0000-0000-000000000001","partitions":[{"replicas":[1],"isr":[1],"leader":1,"leader_epoch":0,
        "partition_epoch":0}],"configs":{}}},"plugins":{},"next_producer_id":7}"#;
    let image = Image::decode(old.as_bytes()).unwrap();
    assert_eq!((image.cluster_id(), image.feature_level()), (None, 0));
    assert_eq!(image.topic_by_id(id(1)), image.topic("t"));
    expect(&image, Some(1), 0, &[1], &[]);
    let compact: String = old.split_whitespace().collect();
    assert_eq!(
        String::from_utf8(image.encode()).unwrap(),
        compact,
        "a lone broker's image can be read by versions from before clusters"
    );
}

#[test]
fn a_command_from_before_clusters_loads() {
    let old = r#"{"command":"register-broker","broker":{"id":1,"host":"h","port":9092,"rack":null}}"#;
    let broker = Broker {
        id: BrokerId(1),
        host: "h".to_owned(),
        port: 9092,
        ..Broker::default()
    };
    let command: Command = serde_json::from_str(old).unwrap();
    assert_eq!(command, Command::RegisterBroker { broker });
    assert_eq!(serde_json::to_string(&command).unwrap(), old);
}

#[test]
fn commands_that_carry_an_image_are_read_back() {
    let mut image = three("2");
    applied(
        &mut image,
        &Command::AlterBrokerConfigs {
            broker: Some(BrokerId(1)),
            update: ConfigUpdate::Replace(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
        },
    );
    let command = Command::Bootstrap {
        cluster_id: "x".to_owned(),
        image: Some(Box::new(image)),
    };
    let text = serde_json::to_string(&command).unwrap();
    assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
}

#[test]
fn refusals_and_outcomes_travel() {
    let refusals = [
        Refusal::TopicExists(name("t")),
        ConfigError::Unknown {
            name: "a".to_owned(),
            nearest: Some("b".into()),
        }
        .into(),
        Refusal::PluginName(PluginRefError::Version("x".to_owned())),
        Refusal::PluginInUse {
            plugin: "p".to_owned(),
            users: vec![PluginUser::Topic {
                topic: name("t"),
                role: Role::Ingest,
                reference: PluginRef::parse("p@latest").unwrap(),
            }],
        },
        Refusal::WrongWorld {
            plugin: "p".to_owned(),
            world: World::Filter,
            role: "partitioner".into(),
        },
        Refusal::Exhausted("plugin versions".into()),
    ];
    for refusal in refusals {
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
    }
    let outcomes = [
        Outcome::Topic(three("1").topic("t").unwrap().clone()),
        Outcome::Partitions(vec![Ok(()), Err(PartitionRefusal::NoReassignment)]),
        Outcome::Elections(vec![Elected {
            topic: id(1),
            partition: PartitionIndex(2),
            result: Err(PartitionRefusal::Ineligible(BrokerId(3))),
        }]),
        Outcome::Broker { epoch: u64::MAX },
        Outcome::Unchanged,
    ];
    for outcome in outcomes {
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }
}
