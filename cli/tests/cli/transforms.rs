//! Transforms from the command line: a life from the deployment to the deletion, and what is refused on the way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::{self, FILTER, PARTITIONER};
use crate::support::Broker;

/// Keeps every record.
const KEEPS: &str = "
    (memory.fill (local.get $rows) (i32.const 1) (local.get $rows_len))
    (call $answer (local.get $rows) (i32.div_u (local.get $rows_len) (i32.const $ROW)) (i32.const 0) (i32.const 0))";

struct World {
    broker: Broker,
}

impl World {
    /// A broker with a topic of three partitions, and plugins that keep everything or fail on everything.
    fn start() -> Self {
        let broker = Broker::start();
        for (name, kind, body) in [
            ("keeps", &FILTER, KEEPS),
            ("fails", &FILTER, guests::TRAPS),
            ("places", &PARTITIONER, guests::TRAPS),
        ] {
            let file = guests::write(broker.directory.path(), name, kind, body);
            broker.run(&["plugin", "push", file.to_str().unwrap()]);
        }
        broker.run(&["topic", "create", "in", "--partitions", "3"]);
        Self { broker }
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.broker.run(&[&["transform"], arguments].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.broker.json(&[&["transform"], arguments].concat())
    }

    #[track_caller]
    fn fail(&self, arguments: &[&str]) -> String {
        self.broker.fail(&[&["transform"], arguments].concat())
    }

    fn produce(&self, from: u32, to: u32) {
        let lines: String = (from..to).map(|n| format!("key{n}:{n}\n")).collect();
        self.broker.run_with(&["produce", "in", "-k", ":"], &lines);
    }

    /// Waits until it has committed all there is to read, and gives what it has written.
    #[track_caller]
    fn written(&self, name: &str, topic: &str) -> Vec<u32> {
        self.wait(name, |partition| partition["lag"] == 0);
        let read = self
            .broker
            .run(&["consume", topic, "--from", "earliest", "--exit-at-end"]);
        let mut numbers: Vec<u32> = read.lines().map(|line| line.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Waits until something holds for all partitions.
    #[track_caller]
    fn wait(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let described = self.json(&["describe", name]);
            let partitions = described["partitions"].as_array().unwrap();
            if partitions.len() == 3 && partitions.iter().all(&holds) {
                return described;
            }
            assert!(Instant::now() < deadline, "{described}");
        }
    }
}

#[test]
fn a_transform_lives_from_its_deployment_to_its_deletion() {
    let world = World::start();
    world.produce(0, 60);
    let deploy = |name: &'static str, more: &[&'static str]| {
        let named = [
            "deploy",
            name,
            "--plugin",
            "keeps",
            "--from",
            "in",
            "--to",
            "out=copies",
        ];
        [&named, more].concat()
    };
    let checked = world.json(&deploy("copy", &["--create-sinks", "--dry-run"]));
    assert_eq!(checked["transform"]["workers"], 3, "{checked}");
    assert_eq!(world.json(&["list"]), json!([]), "it was tried only");
    assert_eq!(world.broker.json(&["topic", "list"]).as_array().unwrap().len(), 1);

    let said = world.run(&deploy("copy", &["--create-sinks"]));
    assert_eq!(
        said,
        "deployed copy (keeps@0.1.0), from in to out=copies, 3 workers\n"
    );
    assert_eq!(world.written("copy", "copies"), (0..60).collect::<Vec<_>>());
    let sink = world.broker.json(&["topic", "describe", "copies"]);
    assert_eq!(sink["partitions"].as_array().unwrap().len(), 3);
    let listed = world.json(&["list"]);
    assert_eq!(
        (
            &listed[0]["transform"],
            &listed[0]["state"],
            &listed[0]["plugin"],
            &listed[0]["to"]
        ),
        (
            &json!("copy"),
            &json!("running"),
            &json!("keeps@0.1.0"),
            &json!(["out=copies"])
        )
    );
    let described = world.wait("copy", |partition| partition["state"] == "running");
    let total = |name: &str| {
        let partitions = described["partitions"].as_array().unwrap().iter();
        partitions
            .map(|partition| partition[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        (total("records-in"), total("records-out"), total("errors")),
        (60, 60, 0)
    );
    let shown = world.run(&["describe", "copy"]);
    assert!(
        shown.starts_with("transform copy: running, keeps@0.1.0, exactly-once, 3 workers"),
        "{shown}"
    );

    assert_eq!(world.json(&["list"])[0]["failed"], 0);

    assert_eq!(world.run(&["scale", "copy", "2"]), "copy has 2 workers at most\n");
    assert_eq!(world.run(&["scale", "copy", "2"]), "copy has 2 workers already\n");
    let said = world.fail(&["reset", "copy", "--to", "earliest", "--yes"]);
    assert!(
        said.contains("pause it first, with 'millstream transform pause'"),
        "{said}"
    );
    assert_eq!(world.run(&["pause", "copy"]), "paused copy\n");
    assert_eq!(world.run(&["pause", "copy"]), "copy was paused already\n");
    world.produce(60, 90);
    let plan = world.json(&["reset", "copy", "--to", "earliest", "--dry-run"]);
    let moved = plan.as_array().unwrap();
    let before: i64 = moved.iter().map(|row| row["before"].as_i64().unwrap()).sum();
    assert_eq!((before, moved.len()), (60, 3), "{plan}");
    assert!(moved.iter().all(|row| row["after"] == 0), "{plan}");
    let said = world.fail(&["reset", "copy", "--to", "latest"]);
    assert!(said.contains("nothing was done; --yes"), "{said}");
    world.run(&["reset", "copy", "--to", "latest", "--yes"]);
    world.run(&["resume", "copy"]);
    world.produce(90, 120);
    let expected: Vec<u32> = (0..60).chain(90..120).collect();
    assert_eq!(
        world.written("copy", "copies"),
        expected,
        "what came meanwhile was passed over"
    );

    let said = world.fail(&["delete", "copy"]);
    assert!(said.contains("nothing was done; --yes"), "{said}");
    world.run(&["delete", "copy", "--keep-offsets", "--yes"]);
    world.produce(120, 150);
    world.run(&deploy("copy", &[]));
    let expected: Vec<u32> = (0..60).chain(90..150).collect();
    assert_eq!(
        world.written("copy", "copies"),
        expected,
        "it went on where it was"
    );
    world.run(&["delete", "copy", "--yes"]);
    assert_eq!(world.json(&["list"]), json!([]));
    world.run(&deploy("copy", &["--start", "latest"]));
    world.wait("copy", |partition| {
        partition["state"] == "running" && partition["records-in"] == 0
    });
}

#[test]
fn upgrades_are_tried_taken_back_and_kept() {
    let world = World::start();
    world.broker.run(&["topic", "create", "out"]);
    world.run(&[
        "deploy", "copy", "--plugin", "keeps", "--from", "in", "--to", "out",
    ]);
    let file = guests::write(
        world.broker.directory.path(),
        "newer",
        &FILTER,
        "(drop (i32.const 1)) unreachable",
    );
    world
        .broker
        .run(&["plugin", "push", file.to_str().unwrap(), "--name", "keeps"]);
    let upgrade = |more: &[&'static str]| {
        let named = ["upgrade", "copy", "--plugin", "keeps@0.2.0"];
        [&named, more].concat()
    };
    let said = world.fail(&["rollback", "copy"]);
    assert!(said.contains("nothing to roll back to"), "{said}");
    let said = world.fail(&["promote", "copy"]);
    assert!(said.contains("no upgrade on trial"), "{said}");
    let said = world.fail(&upgrade(&["--config", "refuse"]));
    assert!(said.contains("'refuse' is no colour"), "{said}");
    let checked = world.json(&upgrade(&["--dry-run"]));
    assert_eq!(checked["transform"]["plugin"], "keeps@0.2.0");
    assert_eq!(
        world.json(&["list"])[0]["plugin"],
        "keeps@0.1.0",
        "it was tried only"
    );

    let tried = world.json(&upgrade(&["--canary", "34%", "--canary-for", "1h"]));
    assert_eq!(tried["transform"]["canary"], "keeps@0.2.0", "{tried}");
    let described = world.json(&["describe", "copy"]);
    let trial = json!({"percent": 34, "errors-permille-max": 10, "promote-after-ms": 3_600_000});
    assert_eq!(described["canary"]["trial"], trial);
    let said = world.fail(&upgrade(&[]));
    assert!(said.contains("is under way"), "{said}");
    world.run(&["promote", "copy"]);
    let listed = world.json(&["list"]);
    assert_eq!(
        (&listed[0]["plugin"], &listed[0]["canary"]),
        (&json!("keeps@0.2.0"), &Value::Null)
    );

    world.produce(0, 30);
    let described = world.wait("copy", |partition| partition["state"] == "failed");
    let reason = described["partitions"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("trapped"), "{reason}");
    let shown = world.run(&["describe", "copy"]);
    assert!(shown.contains("in-0 is failed: "), "{shown}");
    let listed = world.json(&["list"]);
    assert_eq!(
        (&listed[0]["state"], &listed[0]["failed"]),
        (&json!("failed"), &json!(3))
    );
    world.run(&["rollback", "copy", "--to-upgrade-point"]);
    world.run(&["resume", "copy"]);
    assert_eq!(world.written("copy", "out"), (0..30).collect::<Vec<_>>());

    let again = [
        "upgrade",
        "copy",
        "--plugin",
        "keeps@0.1.0",
        "--config",
        "blue",
        "--from-offset",
        "earliest",
    ];
    let moved = world.json(&again)["moved"].clone();
    assert_eq!(moved.as_array().map(Vec::len), Some(3), "{moved}");
    let twice: Vec<u32> = (0..30).flat_map(|n| [n, n]).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.written("copy", "out") != twice {
        assert!(Instant::now() < deadline, "what was read is read again");
    }
}

#[test]
fn what_cannot_be_deployed_is_refused_in_a_sentence() {
    let world = World::start();
    world.broker.run(&["topic", "create", "out"]);
    world.broker.run(&["topic", "create", "next"]);
    world.broker.run(&["view", "create", "view", "--source", "in"]);
    world
        .broker
        .run(&["consume", "in", "--group", "g", "--exit-at-end"]);
    let deploy = |plugin: &'static str, from: &'static str, to: &'static str, more: &[&'static str]| {
        let named = ["deploy", "t", "--plugin", plugin, "--from", from, "--to", to];
        world.fail(&[&named, more].concat())
    };
    for (plugin, from, to, more, told) in [
        (
            "keeps",
            "nowhere",
            "out",
            &[][..],
            "there is no topic or view 'nowhere' to read",
        ),
        (
            "keeps",
            "in",
            "nowhere",
            &[],
            "there is no topic 'nowhere' to write to: create it first, or deploy with --create-sinks",
        ),
        ("keeps", "in", "in", &[], "'in' is source and sink"),
        ("keeps", "in", "view", &[], "'view' is a view"),
        ("keeps", "view,view", "out", &[], "'view' is named twice"),
        ("keeps", "in", "out,a=out", &[], "'out' is named twice"),
        ("keeps", "in", "a=out,a=next", &[], "two sinks are called 'a'"),
        ("keeps", "in", "__consumer_offsets", &[], "brokers' own"),
        ("keeps", "in", "bad name", &["--create-sinks"], "bad name"),
        ("nothing", "in", "out", &[], "nothing"),
        ("keeps@9.0.0", "in", "out", &[], "keeps@9.0.0"),
        ("places", "in", "out", &[], "is a partitioner"),
        (
            "keeps",
            "in",
            "out",
            &["--config", "refuse"],
            "'refuse' is no colour",
        ),
        (
            "keeps",
            "in",
            "out",
            &["--config", "@/no/such/file"],
            "/no/such/file",
        ),
        ("keeps", "in", "out", &["--workers", "0"], "0 workers cannot be"),
        (
            "keeps",
            "in",
            "out",
            &["--commit-interval", "0s"],
            "every 0 ms cannot be",
        ),
        (
            "keeps",
            "in",
            "out",
            &["--commit-bytes", "99GiB"],
            "cannot be: choose",
        ),
        (
            "keeps",
            "in",
            "out",
            &["--on-error", "dead-letter:nowhere"],
            "'nowhere': create it first, or deploy with --create-sinks",
        ),
        (
            "keeps",
            "in",
            "out",
            &["--on-error", "dead-letter:in"],
            "would come back",
        ),
        ("keeps", "in", "out", &["--limit", "colour=1"], "colour"),
    ] {
        let said = deploy(plugin, from, to, more);
        assert!(said.contains(told), "{plugin} {from} {to} {more:?}: {said}");
    }
    assert_eq!(world.json(&["list"]), json!([]));
    world.run(&["deploy", "t", "--plugin", "keeps", "--from", "in", "--to", "out"]);
    let said = deploy("keeps", "in", "out", &[]);
    assert!(said.contains("'t' exists already"), "{said}");
    let round = [
        "deploy", "round", "--plugin", "keeps", "--from", "out", "--to", "in",
    ];
    let said = world.fail(&round);
    assert!(said.contains("go round without end"), "{said}");
    let said = world.broker.fail(&["topic", "delete", "out"]);
    assert!(said.contains("delete t first"), "{said}");
    for change in [
        &["describe", "nobody"][..],
        &["pause", "nobody"],
        &["scale", "nobody", "2"],
        &["upgrade", "nobody", "--plugin", "keeps"],
        &["reset", "nobody", "--to", "earliest", "--yes"],
        &["delete", "nobody", "--yes"],
        &["logs", "nobody"],
    ] {
        let said = world.fail(change);
        assert!(
            said.contains("no transform 'nobody'; 'millstream transform list'"),
            "{said}"
        );
    }
}

#[test]
fn the_interface_names_what_it_cannot_read() {
    let broker = Broker::start();
    let post = |path: &str, body: &str| {
        let length = body.len();
        broker.http_raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    };
    for (path, body, status, told) in [
        ("/v1/transforms", "", 400, "missing field `name`"),
        ("/v1/transforms", "{", 400, "EOF"),
        ("/v1/transforms", "{\"nmae\":1}", 400, "unknown field `nmae`"),
        ("/v1/transforms?dryrun=true", "{}", 400, "dryrun"),
        ("/v1/transforms/t/scale", "{\"workers\":-1}", 400, "-1"),
        (
            "/v1/transforms/t/scale",
            "{\"workers\":1}",
            404,
            "no transform 't'",
        ),
        (
            "/v1/transforms/t/reset",
            "{\"to\":\"soon\"}",
            400,
            "'soon' is none of",
        ),
        ("/v1/transforms/t/nothing", "{}", 404, "openapi.json"),
    ] {
        let (answered, text) = post(path, body);
        assert_eq!(answered, status, "{path} {body}: {text}");
        assert!(text.contains(told), "{path} {body}: {text}");
    }
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(300 * 1024));
    assert_eq!(post("/v1/transforms", &large).0, 413);
    assert_eq!(broker.http("PUT", "/v1/transforms", "localhost").0, 405);
}

#[test]
fn what_belongs_to_transforms_is_left_alone() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    let said = broker.fail(&[
        "group",
        "reset-offsets",
        "__transform.x",
        "--topic",
        "t",
        "--to",
        "earliest",
    ]);
    assert!(said.contains("'millstream transform' looks after it"), "{said}");
}
