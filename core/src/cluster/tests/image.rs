//! Stories of topics, views and plugins.

use super::transforms::{any_transform_command, check_transforms};
use super::*;
use crate::ids::ProducerId;

#[test]
fn a_topic_is_found_by_name_and_id_until_it_is_deleted() {
    let mut image = Image::default();
    applied(&mut image, &create("flights", 1, 2, &[("retention.ms", "5")]));
    let topic = image.topic("flights").unwrap();
    assert_eq!(topic.partitions[1].leader, Some(BrokerId(1)));
    assert_eq!(image.topic_by_id(id(1)), Some(topic));
    applied(
        &mut image,
        &Command::CreatePartitions {
            topic: name("flights"),
            added: vec![vec![BrokerId(1)]],
        },
    );
    assert_eq!(image.topic("flights").unwrap().partitions.len(), 3);
    refused(
        &mut image,
        &create("flights", 2, 1, &[]),
        "topic 'flights' already exists",
    );
    refused(
        &mut image,
        &create("other", 1, 1, &[]),
        "topic id of 'other' is in use already",
    );
    refused(
        &mut image,
        &create("other", 2, 0, &[]),
        "the number of partitions must be from 1 to 100000, not 0",
    );
    let mut twice = create("other", 2, 1, &[]);
    if let Command::CreateTopic { partitions, .. } = &mut twice {
        partitions[0].push(BrokerId(1));
    }
    refused(
        &mut image,
        &twice,
        "partition 0: replicas [BrokerId(1), BrokerId(1)] are empty or name a broker twice",
    );
    applied(&mut image, &Command::DeleteTopic { id: id(1) });
    assert_eq!((image.topic("flights"), image.topic_by_id(id(1))), (None, None));
    refused(
        &mut image,
        &Command::DeleteTopic { id: id(1) },
        "there is no topic '00000000-0000-0000-0000-000000000001'",
    );
}

#[test]
fn names_that_differ_in_dots_and_underscores_collide() {
    let mut image = Image::default();
    applied(&mut image, &create("a.b", 1, 1, &[]));
    refused(
        &mut image,
        &create("a_b", 2, 1, &[]),
        "topic 'a_b' collides with existing topic 'a.b': '.' and '_' are the same in metrics",
    );
    applied(&mut image, &create("a-b", 2, 1, &[]));
}

#[test]
fn configurations_change_step_by_step_or_as_a_whole() {
    let mut image = Image::default();
    applied(&mut image, &create("t", 1, 1, &[("retention.ms", "5")]));
    let steps = vec![
        ConfigChange::Set("segment.bytes".to_owned(), "2000000".to_owned()),
        ConfigChange::Delete("retention.ms".to_owned()),
        ConfigChange::Append("cleanup.policy".to_owned(), "delete".to_owned()),
    ];
    applied(
        &mut image,
        &Command::AlterConfigs {
            topic: name("t"),
            update: ConfigUpdate::Change(steps),
        },
    );
    let expected = [("cleanup.policy", "delete"), ("segment.bytes", "2000000")];
    let expected: BTreeMap<String, String> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(image.topic("t").unwrap().configs, expected);
    let empty = ConfigUpdate::Replace(BTreeMap::new());
    applied(
        &mut image,
        &Command::AlterConfigs {
            topic: name("t"),
            update: empty,
        },
    );
    assert!(image.topic("t").unwrap().configs.is_empty());
    refused(
        &mut image,
        &set("t", &[("retention.m", "1")]),
        "unknown topic config 'retention.m'; did you mean 'retention.ms'?",
    );
    let append = vec![ConfigChange::Append("retention.ms".to_owned(), "1".to_owned())];
    let append = Command::AlterConfigs {
        topic: name("t"),
        update: ConfigUpdate::Change(append),
    };
    refused(&mut image, &append, "topic config 'retention.ms' is not a list");
}

#[test]
fn a_view_has_its_sources_partitions_and_keeps_it_alive() {
    let mut image = Image::default();
    applied(&mut image, &create("flights", 1, 6, &[]));
    let source = [("millstream.view.source", "flights")];
    refused(
        &mut image,
        &create("v", 2, 5, &source),
        "view 'v' has the 6 partitions of its source, not 5",
    );
    refused(
        &mut image,
        &create("v", 2, 0, &[("millstream.view.source", "nope")]),
        "view 'v': there is no topic 'nope' to be a view of",
    );
    applied(&mut image, &create("v", 2, 6, &source));
    applied(
        &mut image,
        &create("vv", 3, 0, &[("millstream.view.source", "v")]),
    );
    let top = image.topic("vv").unwrap();
    assert_eq!(image.partitions(top).len(), 6);
    assert_eq!(image.stored_topic(top).name.as_str(), "flights");
    refused(
        &mut image,
        &Command::DeleteTopic { id: id(1) },
        "topic 'flights' is read by views: v",
    );
    refused(
        &mut image,
        &Command::CreatePartitions {
            topic: name("v"),
            added: vec![vec![BrokerId(1)]],
        },
        "view 'v' has the 6 partitions of its source, not 7",
    );
    applied(
        &mut image,
        &Command::CreatePartitions {
            topic: name("flights"),
            added: vec![vec![BrokerId(1)]],
        },
    );
    assert_eq!(image.partitions(image.topic("vv").unwrap()).len(), 7);
    refused(
        &mut image,
        &set("v", &[("millstream.view.source", "vv")]),
        "views would form a cycle: v -> vv -> v",
    );
    refused(
        &mut image,
        &set("v", &[("millstream.view.source", "v")]),
        "views would form a cycle: v -> v",
    );
    refused(
        &mut image,
        &create("w", 9, 0, &[("millstream.view.source", "w")]),
        "views would form a cycle: w -> w",
    );
    refused(
        &mut image,
        &set("flights", &source),
        "topic 'flights' cannot become a view, nor a view a topic: create another one",
    );
    applied(&mut image, &Command::DeleteTopic { id: id(3) });
    applied(&mut image, &Command::DeleteTopic { id: id(2) });
    applied(&mut image, &Command::DeleteTopic { id: id(1) });
}

#[test]
fn views_do_not_pile_up_without_end() {
    let mut image = Image::default();
    applied(&mut image, &create("v0", 100, 1, &[]));
    let on = |n: usize| {
        create(
            &format!("v{n}"),
            100 + n as u128,
            0,
            &[("millstream.view.source", &format!("v{}", n - 1))],
        )
    };
    for n in 1..VIEW_DEPTH_MAX {
        applied(&mut image, &on(n));
    }
    refused(
        &mut image,
        &on(VIEW_DEPTH_MAX),
        "view 'v8' would stand on more than 8 others",
    );
    // A pile may not be moved onto another either.
    applied(&mut image, &create("w0", 200, 1, &[]));
    applied(
        &mut image,
        &create("w1", 201, 0, &[("millstream.view.source", "w0")]),
    );
    refused(
        &mut image,
        &set("v1", &[("millstream.view.source", "w1")]),
        "view 'v1' would stand on more than 8 others",
    );
}

#[test]
fn plugins_count_their_versions_and_stay_while_they_are_used() {
    let mut image = Image::default();
    let outcome = applied(&mut image, &push("mask", "aa", World::Transform));
    assert!(
        matches!(outcome, Outcome::Plugin { plugin, created: true } if plugin.version == version("0.1.0"))
    );
    let again = apply(&mut image, &push("mask", "aa", World::Transform)).unwrap();
    assert!(
        matches!(again, Outcome::Plugin { plugin, created: false } if plugin.version == version("0.1.0"))
    );
    applied(&mut image, &push("mask", "bb", World::Transform));
    applied(&mut image, &push("by-field", "cc", World::Partitioner));
    let mut explicit = push("mask", "dd", World::Transform);
    if let Command::RegisterPlugin { version: v, .. } = &mut explicit {
        *v = Some(version("0.2.0"));
    }
    refused(
        &mut image,
        &explicit,
        "plugin 'mask' has a version 0.2.0 already, with other content",
    );

    applied(&mut image, &create("t", 1, 1, &[]));
    refused(
        &mut image,
        &set("t", &[("millstream.partitioner", "nope")]),
        "there is no plugin 'nope@latest'",
    );
    refused(
        &mut image,
        &set("t", &[("millstream.partitioner", "mask")]),
        "plugin 'mask@0.2.0' is a transform and cannot be attached as partitioner",
    );
    refused(
        &mut image,
        &set("t", &[("millstream.ingest", r#"["by-field"]"#)]),
        "plugin 'by-field@0.1.0' is a partitioner and cannot be attached as ingest plugin",
    );
    applied(
        &mut image,
        &set(
            "t",
            &[
                ("millstream.partitioner", "by-field"),
                ("millstream.ingest", r#"["mask@0.1.0"]"#),
            ],
        ),
    );
    let view = [
        ("millstream.view.source", "t"),
        ("millstream.view.plugins", r#"["mask@latest"]"#),
    ];
    applied(&mut image, &create("v", 2, 0, &view));
    assert_eq!(
        image.users_of_plugin("by-field", version("0.1.0"))[0].to_string(),
        "t (partitioner, as by-field@latest)"
    );
    let delete = |plugin: &str, v: &str| Command::DeletePlugin {
        name: plugin.to_owned(),
        version: version(v),
    };
    refused(
        &mut image,
        &delete("mask", "0.1.0"),
        "plugin 'mask@0.1.0' is in use by t (ingest, as mask@0.1.0)",
    );
    refused(
        &mut image,
        &delete("mask", "0.2.0"),
        "plugin 'mask@0.2.0' is in use by v (view, as mask@latest)",
    );
    refused(
        &mut image,
        &delete("mask", "0.3.0"),
        "there is no plugin 'mask@0.3.0'",
    );
    refused(
        &mut image,
        &push("mask", "ee", World::Partitioner),
        "plugin 'mask@0.3.0' is a partitioner and cannot be attached as view plugin",
    );
    applied(&mut image, &set("t", &[("millstream.ingest", "")]));
    applied(&mut image, &delete("mask", "0.1.0"));
}

#[test]
fn dead_letters_go_to_a_topic_that_is_there() {
    let mut image = Image::default();
    applied(&mut image, &push("keep", "aa", World::Filter));
    applied(&mut image, &create("t", 1, 1, &[]));
    let ingest = [
        ("millstream.ingest", r#"["keep"]"#),
        ("millstream.ingest.on-error", "dead-letter:bad"),
    ];
    refused(
        &mut image,
        &set("t", &ingest),
        "invalid value 'bad' for topic config 'millstream.ingest': there is no such dead-letter topic",
    );
    applied(&mut image, &create("bad", 2, 1, &[]));
    applied(&mut image, &set("t", &ingest));
    refused(
        &mut image,
        &Command::DeleteTopic { id: id(2) },
        "topic 'bad' is the dead-letter topic of: t",
    );
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut image = Image::default();
    let ask = Command::AllocateProducerIds {
        broker: BrokerId(1),
        count: 1000,
    };
    for first in [0, 1000, 2000] {
        assert_eq!(
            applied(&mut image, &ask),
            Outcome::ProducerIds {
                first: ProducerId(first),
                count: 1000
            }
        );
    }
}

use proptest::prelude::*;

fn any_command() -> impl Strategy<Value = Command> {
    let topic = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d.e"), Just("d_e")];
    let config = prop_oneof![
        Just(("millstream.view.source", "a")),
        Just(("millstream.view.source", "b")),
        Just(("millstream.view.source", "c")),
        Just(("retention.ms", "7")),
        Just(("millstream.ingest", r#"["p"]"#)),
        Just(("millstream.partitioner", "q@0.1.0")),
    ];
    let configs = prop::collection::vec(config, 0..2);
    prop_oneof![
        4 => (topic.clone(), 0..6_u128, 0..3_usize, configs.clone()).prop_map(|(t, n, p, c)| create(t, n, p, &c)),
        2 => (0..6_u128).prop_map(|n| Command::DeleteTopic { id: id(n) }),
        2 => (topic.clone(), configs).prop_map(|(t, c)| set(t, &c)),
        1 => topic.prop_map(|t| Command::CreatePartitions { topic: name(t), added: vec![vec![BrokerId(1)]] }),
        1 => prop_oneof![Just("aa"), Just("bb")].prop_map(|sha| push("p", sha, World::Filter)),
        1 => Just(push("q", "cc", World::Partitioner)),
        1 => Just(Command::DeletePlugin { name: "p".to_owned(), version: PluginVersion::FIRST }),
        1 => (1..5000_u32).prop_map(|count| Command::AllocateProducerIds { broker: BrokerId(1), count }),
        1 => Just(Command::RegisterBroker { broker: Broker { id: BrokerId(1), ..Broker::default() } }),
        4 => any_transform_command(&["a", "b", "c"]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_same_commands_give_the_same_bytes(commands in prop::collection::vec(any_command(), 0..60)) {
        let (mut one, mut other) = (Image::default(), Image::default());
        for (n, command) in commands.iter().enumerate() {
            let text = serde_json::to_vec(command).unwrap();
            let read: Command = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(apply(&mut one, command), apply(&mut other, &read));
            if n % 10 == 0 {
                other = Image::decode(&other.encode()).unwrap();
            }
            prop_assert_eq!(one.encode(), other.encode());
            prop_assert_eq!(&one, &other);
            check_transforms(&one);
            for topic in one.topics() {
                prop_assert!(!one.partitions(topic).is_empty(), "every topic and view has partitions");
                prop_assert!(!one.stored_topic(topic).is_view());
                prop_assert_eq!(one.topic_by_id(topic.id), Some(topic));
                let config = topic.config(&BrokerDefaults::default()).unwrap();
                for (role, attachment) in config.attachments() {
                    prop_assert!(one.plugin(&attachment.plugin).is_some_and(|p| p.world.serves(role)));
                }
            }
        }
    }
}
