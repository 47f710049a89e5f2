//! Plugins that are none, and plugins that misbehave: each is refused or contained, whoever waits for it is told why, and
//! the broker goes on serving everyone else.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guests::{self, FILTER, Kind, PARTITIONER, TRANSFORM};
use crate::support::Broker;

/// A broker with a topic that has nothing to do with plugins.
struct World {
    broker: Broker,
    files: TempDir,
}

impl World {
    fn start() -> Self {
        let (broker, files) = (Broker::start(), tempfile::tempdir().unwrap());
        broker.run(&["topic", "create", "plain"]);
        Self { broker, files }
    }

    fn push(&self, name: &str, kind: &Kind, body: &str) {
        let file = guests::write(self.files.path(), name, kind, body);
        self.broker
            .run(&["plugin", "push", file.to_str().unwrap(), "--name", name]);
    }

    fn refuse(&self, file: &Path) -> String {
        self.broker
            .fail(&["plugin", "push", file.to_str().unwrap(), "--name", "refused"])
    }

    /// Others do not notice.
    #[track_caller]
    fn serves_others(&self) {
        self.broker.run_with(&["produce", "plain"], "one\n");
        let read = self
            .broker
            .run(&["consume", "plain", "--from", "earliest", "--exit-at-end"]);
        assert!(read.ends_with("one\n"), "{read}");
    }

    #[track_caller]
    fn produce(&self, topic: &str) {
        self.broker.run_with(&["produce", topic], "one\ntwo\n");
    }

    #[track_caller]
    fn read(&self, topic: &str) -> String {
        self.broker
            .run(&["consume", topic, "--from", "earliest", "--exit-at-end"])
    }
}

/// What a plugin may do, and what those are told who wait for it. Little fuel is given: a loop ends soon.
const MISBEHAVIOURS: [(&str, &str, &str); 7] = [
    ("loops", guests::LOOPS, "fuel"),
    ("traps", guests::TRAPS, "trapped"),
    ("allocates", guests::ALLOCATES, "memory"),
    ("too-little", guests::ANSWERS_TOO_LITTLE, "nonsense"),
    ("nonsense", guests::ANSWERS_NONSENSE, "nonsense"),
    ("from-nowhere", guests::ANSWERS_FROM_NOWHERE, ""),
    ("too-much", guests::ANSWERS_TOO_MUCH, "output"),
];

fn attach(plugin: &str, on_error: &str) -> String {
    json!([{"plugin": plugin, "on-error": on_error, "limits": {"fuel": 10_000_000}}]).to_string()
}

#[test]
fn a_component_that_is_none_is_refused_by_name() {
    let world = World::start();
    let directory = world.files.path();
    let wat = |name: &str, text: &str| guests::write_bytes(directory, name, &wat::parse_str(text).unwrap());
    let imports = wat(
        "imports",
        r#"(component (import "wasi:filesystem/types@0.2.3" (instance)))"#,
    );
    let said = world.refuse(&imports);
    assert!(
        said.contains("imports 'wasi:filesystem/types@0.2.3'") && said.contains("millstream:plugin/host"),
        "{said}"
    );
    let said = world.refuse(&wat("nothing", "(component)"));
    assert!(
        said.contains("none of the worlds filter, partitioner and transform"),
        "{said}"
    );
    let types = r#"(component
        (core module $m (func (export "f") (param i32) (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func (export "filter") (param "x" u32) (result u32) (canon lift (core func $i "f"))))"#;
    let said = world.refuse(&wat("types", types));
    assert!(said.contains("does not fit the world filter"), "{said}");
    let good = guests::write(directory, "good", &FILTER, guests::TRAPS);
    let good = std::fs::read(good).unwrap();
    let cut = guests::write_bytes(directory, "cut", &good[..good.len() / 2]);
    assert!(world.refuse(&cut).contains("malformed"), "{}", world.refuse(&cut));
    let mut padded = good.clone();
    padded.resize(100 << 20, 0);
    let said = world.refuse(&guests::write_bytes(directory, "large", &padded));
    assert!(said.contains("millstream.plugin.max.bytes"), "{said}");
    assert_eq!(
        world.broker.json(&["plugin", "list"]),
        json!([]),
        "nothing is left of them"
    );
    world.serves_others();
}

#[test]
fn the_wrong_world_is_refused_where_it_is_attached() {
    let world = World::start();
    world.push("f", &FILTER, guests::TRAPS);
    world.push("p", &PARTITIONER, guests::TRAPS);
    for (config, world_of, role) in [
        ("millstream.partitioner=f", "filter", "partitioner"),
        (r#"millstream.ingest=["p"]"#, "partitioner", "ingest"),
    ] {
        let said = world.broker.fail(&["topic", "create", "t", "--config", config]);
        assert!(
            said.contains(&format!("is a {world_of}")) && said.contains(role),
            "{said}"
        );
    }
    let said = world
        .broker
        .fail(&["view", "create", "v", "--source", "plain", "--plugin", "p"]);
    assert!(
        said.contains("is a partitioner") && said.contains("view"),
        "{said}"
    );
    world.serves_others();
}

#[test]
fn a_configuration_that_the_plugin_refuses_is_told_when_attaching() {
    let world = World::start();
    world.push("f", &FILTER, guests::TRAPS);
    world.push("p", &PARTITIONER, guests::TRAPS);
    let refused = |arguments: &[&str]| {
        let said = world.broker.fail(arguments);
        assert!(said.contains("'refuse' is no colour"), "{said}");
    };
    let ingest = r#"millstream.ingest=[{"plugin":"f","config":"refuse"}]"#;
    refused(&["topic", "create", "t", "--config", ingest]);
    refused(&["topic", "alter", "plain", "--config", ingest]);
    refused(&[
        "topic",
        "alter",
        "plain",
        "--ingest",
        "f",
        "--ingest-config",
        "refuse",
    ]);
    refused(&[
        "topic",
        "alter",
        "plain",
        "--config",
        "millstream.partitioner=p",
        "--config",
        "millstream.partitioner.config=refuse",
    ]);
    refused(&[
        "view", "create", "v", "--source", "plain", "--plugin", "f", "--config", "refuse",
    ]);
    let topics = world.broker.json(&["topic", "list"]);
    assert_eq!(topics.as_array().unwrap().len(), 1, "{topics}");
    world.serves_others();
}

#[test]
fn a_plugin_that_cannot_start_cannot_be_attached() {
    let world = World::start();
    for (name, body, told) in [
        ("traps", guests::TRAPS, "trapped"),
        ("allocates", guests::ALLOCATES, "memory"),
        ("loops", guests::LOOPS, "fuel"),
    ] {
        let file = guests::write_configured_by(world.files.path(), name, body);
        world
            .broker
            .run(&["plugin", "push", file.to_str().unwrap(), "--name", name]);
        let ingest = format!("millstream.ingest={}", attach(name, "skip"));
        let said = world
            .broker
            .fail(&["topic", "alter", "plain", "--config", &ingest]);
        assert!(said.contains(told) && said.contains(name), "{said}");
    }
    world.serves_others();
}

#[test]
fn ingest_plugins_that_misbehave_are_contained() {
    let world = World::start();
    world.broker.run(&["topic", "create", "dead"]);
    for (kind, place) in [(&FILTER, "filter"), (&TRANSFORM, "transform")] {
        for (name, body, told) in MISBEHAVIOURS {
            let plugin = format!("{place}-{name}");
            world.push(&plugin, kind, body);
            let create = |policy: &str, on_error: &str| {
                let topic = format!("{plugin}-{policy}");
                let ingest = format!("millstream.ingest={}", attach(&plugin, on_error));
                world
                    .broker
                    .run(&["topic", "create", &topic, "--config", &ingest]);
                topic
            };

            let topic = create("fail", "fail");
            let said = world.broker.fail_with(&["produce", &topic], "one\ntwo\n");
            assert!(said.contains(told) && said.contains(&plugin), "{plugin}: {said}");
            assert_eq!(world.read(&topic), "", "{plugin}: nothing is stored");

            let topic = create("skip", "skip");
            world.produce(&topic);
            assert_eq!(world.read(&topic), "", "{plugin}: what it fails on is left out");

            let topic = create("letter", "dead-letter:dead");
            world.produce(&topic);
            assert_eq!(
                world.read(&topic),
                "",
                "{plugin}: what it fails on goes elsewhere"
            );
            check_letters(&world, &plugin, &topic, told);
        }
    }
    world.serves_others();
}

fn check_letters(world: &World, plugin: &str, topic: &str, told: &str) {
    let read = world.broker.run(&[
        "consume",
        "dead",
        "--from",
        "earliest",
        "--exit-at-end",
        "--format",
        "json",
    ]);
    let letters: Vec<Value> = read
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [.., one, two] = &letters[..] else {
        panic!("{read}")
    };
    for (letter, value, offset) in [(one, "one", "0"), (two, "two", "1")] {
        assert_eq!(letter["value"], value, "{letter}");
        let header = |name: &str| {
            let headers = letter["headers"].as_array().unwrap();
            let of_name = headers.iter().find(|header| header[0] == name);
            of_name.unwrap_or_else(|| panic!("{name} in {letter}"))[1]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(header("millstream.plugin"), plugin);
        assert_eq!(header("millstream.version"), "0.1.0");
        assert_eq!(header("millstream.topic"), topic);
        assert_eq!(
            (header("millstream.partition"), header("millstream.offset")),
            ("0".into(), offset.into())
        );
        assert!(header("millstream.reason").contains(told), "{letter}");
    }
}

#[test]
fn partitioners_that_misbehave_are_contained() {
    let world = World::start();
    for (name, body, told) in MISBEHAVIOURS {
        world.push(name, &PARTITIONER, body);
        let create = |policy: &str| {
            let topic = format!("{name}-{policy}");
            let (partitioner, on_error) = (
                format!("millstream.partitioner={name}"),
                format!("millstream.partitioner.on-error={policy}"),
            );
            world.broker.run(&[
                "topic",
                "create",
                &topic,
                "--partitions",
                "3",
                "--config",
                &partitioner,
                "--config",
                &on_error,
            ]);
            topic
        };
        let topic = create("fail");
        let said = world.broker.fail_with(&["produce", &topic], "one\ntwo\n");
        assert!(said.contains(told) && said.contains(name), "{name}: {said}");
        assert_eq!(world.read(&topic), "", "{name}: nothing is stored");

        let topic = create("skip");
        world.produce(&topic);
        let mut read: Vec<String> = world.read(&topic).lines().map(str::to_owned).collect();
        read.sort();
        assert_eq!(
            read,
            ["one", "two"],
            "{name}: they stay where the client sent them"
        );
    }
    let said = world.broker.fail(&[
        "topic",
        "create",
        "t",
        "--config",
        "millstream.partitioner=traps",
        "--config",
        "millstream.partitioner.on-error=dead-letter:plain",
    ]);
    assert!(said.contains("fail or skip"), "{said}");
    world.serves_others();
}

#[test]
fn views_that_misbehave_are_contained() {
    let world = World::start();
    world.broker.run(&["topic", "create", "source"]);
    world.produce("source");
    for (kind, place) in [(&FILTER, "filter"), (&TRANSFORM, "transform")] {
        for (name, body, told) in MISBEHAVIOURS {
            let plugin = format!("{place}-{name}");
            world.push(&plugin, kind, body);
            let create = |policy: &str| {
                let view = format!("{plugin}-{policy}");
                world.broker.run(&[
                    "view",
                    "create",
                    &view,
                    "--source",
                    "source",
                    "--plugin",
                    &plugin,
                    "--on-error",
                    policy,
                    "--limit",
                    "fuel=10000000",
                ]);
                view
            };
            let view = create("fail");
            world
                .broker
                .fail(&["consume", &view, "--from", "earliest", "--exit-at-end"]);
            let described = world.broker.json(&["plugin", "describe", &plugin]).to_string();
            assert!(described.contains(told), "{described}");
            let view = create("skip");
            assert_eq!(world.read(&view), "", "{plugin}: what it fails on is left out");
        }
    }
    assert_eq!(world.read("source"), "one\ntwo\n");
    world.broker.fail(&[
        "view",
        "create",
        "v",
        "--source",
        "source",
        "--plugin",
        "filter-traps",
        "--on-error",
        "dead-letter:plain",
    ]);
    world.serves_others();
}

#[test]
fn views_of_views_work_and_cycles_are_refused() {
    let world = World::start();
    world.produce("plain");
    world.broker.run(&["view", "create", "a", "--source", "plain"]);
    world.broker.run(&["view", "create", "b", "--source", "a"]);
    assert_eq!(world.read("b"), "one\ntwo\n");
    let said = world
        .broker
        .fail(&["topic", "alter", "a", "--config", "millstream.view.source=b"]);
    assert!(said.contains("a -> b -> a"), "{said}");
    let said = world.broker.fail(&["view", "create", "c", "--source", "c"]);
    assert!(said.contains("'c'") || said.contains("c -> c"), "{said}");
    let said = world.broker.fail_with(&["produce", "b"], "three\n");
    assert!(said.contains("is a view"), "{said}");
    let said = world.broker.fail(&["topic", "delete", "a"]);
    assert!(said.contains("read by views: b"), "{said}");
    let said = world
        .broker
        .fail(&["topic", "alter", "plain", "--config", "millstream.view.source=b"]);
    assert!(said.contains("cannot become a view"), "{said}");
    world.serves_others();
}
