//! Plugins that misbehave where they are deployed: the records that they fail on fall under the policy, whoever looks is told
//! why, and a transform beside them does not notice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::{self, FILTER, TRANSFORM};
use crate::support::Broker;

/// What a plugin may do with every record, and what is said of the records.
const MISBEHAVIOURS: [(&str, &str, &str); 6] = [
    ("loops", guests::LOOPS, "fuel"),
    ("traps", guests::TRAPS, "trapped"),
    ("allocates", guests::ALLOCATES, "memory"),
    ("nonsense", guests::ANSWERS_NONSENSE, ""),
    ("nowhere", guests::ANSWERS_FROM_NOWHERE, ""),
    ("too-much", guests::ANSWERS_TOO_MUCH, "output"),
];
/// Keeps every record.
const KEEPS: &str = "
    (memory.fill (local.get $rows) (i32.const 1) (local.get $rows_len))
    (call $answer (local.get $rows) (i32.div_u (local.get $rows_len) (i32.const $ROW)) (i32.const 0) (i32.const 0))";
const RECORDS: u64 = 6;

/// A broker with a topic of one partition, a transform that copies it, and plugins that misbehave.
fn world() -> Broker {
    let broker = Broker::start();
    let push = |name: &str, kind, body| {
        let file = guests::write(broker.directory.path(), name, kind, body);
        broker.run(&["plugin", "push", file.to_str().unwrap(), "--name", name]);
    };
    push("keeps", &FILTER, KEEPS);
    for (name, body, _) in MISBEHAVIOURS {
        push(name, &TRANSFORM, body);
    }
    broker.run(&["topic", "create", "in"]);
    deploy(&broker, "keeps", "fail");
    broker
}

/// Runs a plugin from `in` to a topic that is called like it. Little fuel is given: a loop ends soon.
fn deploy(broker: &Broker, plugin: &str, on_error: &str) {
    let to = format!("out={plugin}.out");
    let named = [
        "transform",
        "deploy",
        plugin,
        "--plugin",
        plugin,
        "--from",
        "in",
        "--to",
        &to,
    ];
    let more = [
        "--create-sinks",
        "--on-error",
        on_error,
        "--limit",
        "fuel=3000000",
        "--limit",
        "memory-bytes=67108864",
    ];
    broker.run(&[&named[..], &more].concat());
}

fn produce(broker: &Broker) {
    let lines: String = (0..RECORDS).map(|number| format!("{number}\n")).collect();
    broker.run_with(&["produce", "in"], &lines);
}

/// The one partition of a transform, once something holds for it.
#[track_caller]
fn wait(broker: &Broker, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let described = broker.json(&["transform", "describe", name]);
        let partition = described["partitions"][0].clone();
        if holds(&partition) {
            return partition;
        }
        assert!(Instant::now() < deadline, "{name}: {described}");
    }
}

#[track_caller]
fn copies_everything(broker: &Broker) {
    wait(broker, "keeps", |partition| partition["lag"] == 0);
    let read = broker.run(&["consume", "keeps.out", "--from", "earliest", "--exit-at-end"]);
    assert_eq!(read.lines().count() as u64, RECORDS, "{read}");
}

#[test]
fn a_partition_stops_in_front_of_the_record_that_its_plugin_fails_on() {
    let broker = world();
    for (name, _, _) in MISBEHAVIOURS {
        deploy(&broker, name, "fail");
    }
    produce(&broker);
    for (name, _, told) in MISBEHAVIOURS {
        let partition = wait(&broker, name, |partition| partition["state"] == "failed");
        let reason = partition["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("record at offset 0: ") && reason.contains(told),
            "{name}: {reason}"
        );
        assert_eq!(
            (&partition["lag"], &partition["records-out"]),
            (&json!(RECORDS), &json!(0)),
            "{name}"
        );
    }
    copies_everything(&broker);
}

#[test]
fn records_that_a_plugin_fails_on_are_left_out_one_by_one() {
    let broker = world();
    for (name, _, _) in MISBEHAVIOURS {
        deploy(&broker, name, "skip");
    }
    produce(&broker);
    for (name, _, told) in MISBEHAVIOURS {
        let partition = wait(&broker, name, |partition| partition["committed"] == RECORDS);
        assert_eq!(
            (
                &partition["state"],
                &partition["errors"],
                &partition["records-out"]
            ),
            (&json!("running"), &json!(RECORDS), &json!(0)),
            "{name}: {partition}"
        );
        let last = &partition["last-error"];
        assert!(last["reason"].as_str().unwrap().contains(told), "{name}: {last}");
    }
    copies_everything(&broker);
}

#[test]
fn records_that_a_plugin_fails_on_are_kept_as_dead_letters() {
    let broker = world();
    broker.run(&["topic", "create", "letters"]);
    for (name, _, _) in MISBEHAVIOURS {
        deploy(&broker, name, "dead-letter:letters");
    }
    produce(&broker);
    for (name, _, _) in MISBEHAVIOURS {
        let partition = wait(&broker, name, |partition| partition["committed"] == RECORDS);
        assert_eq!(partition["dead-lettered"], json!(RECORDS), "{name}: {partition}");
    }
    let read = broker.run(&["consume", "letters", "--from", "earliest", "--exit-at-end"]);
    let mut letters: Vec<u64> = read.lines().map(|line| line.parse().unwrap()).collect();
    letters.sort_unstable();
    let each = (0..RECORDS).flat_map(|number| vec![number; MISBEHAVIOURS.len()]);
    assert_eq!(letters, each.collect::<Vec<_>>());
    copies_everything(&broker);
}
