//! Topics, records and groups from the command line, against a broker in a process of its own.

use crate::support::Broker;
use serde_json::json;

#[test]
fn topics_are_created_shown_changed_and_deleted() {
    let broker = Broker::start();
    broker.run(&[
        "topic",
        "create",
        "flights",
        "--partitions",
        "3",
        "--config",
        "retention.ms=86400000",
    ]);
    assert!(
        broker
            .fail(&["topic", "create", "flights"])
            .contains("already exists")
    );
    assert!(
        broker
            .run(&["topic", "create", "flights", "--if-not-exists"])
            .contains("exists already")
    );
    let listed = broker.json(&["topic", "list"]);
    assert_eq!(
        (&listed[0]["topic"], &listed[0]["partitions"]),
        (&json!("flights"), &json!(3))
    );

    broker.run(&[
        "topic",
        "alter",
        "flights",
        "-c",
        "retention.ms=1000000",
        "--partitions",
        "4",
    ]);
    let described = broker.json(&["topic", "describe", "flights"]);
    assert_eq!(described["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(described["configs"][0]["config"], "retention.ms");
    assert_eq!(described["configs"][0]["value"], "1000000");
    broker.run(&["topic", "alter", "flights", "--delete-config", "retention.ms"]);
    assert_eq!(
        broker.json(&["topic", "describe", "flights"])["configs"],
        json!([])
    );
    assert!(
        broker
            .fail(&["topic", "alter", "flights", "-c", "retention.mss=1"])
            .contains("retention.mss")
    );
    assert!(
        broker
            .fail(&["topic", "alter", "flights"])
            .contains("nothing to change")
    );

    broker.run(&["topic", "delete", "flights"]);
    assert!(
        broker
            .fail(&["topic", "describe", "flights"])
            .contains("does not exist")
    );
    assert!(
        broker
            .run(&["topic", "delete", "flights", "--if-exists"])
            .contains("nothing")
    );
    assert!(broker.fail(&["topic", "create", "bad name"]).contains("bad name"));
}

#[test]
fn what_is_produced_is_consumed() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "--partitions", "2"]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let input: String = (0..200).map(|n| format!("{codec}{n}:{{\"n\":{n}}}\n")).collect();
        broker.run_with(&["produce", "t", "-k", ":", "-z", codec, "-H", "codec=x"], &input);
    }
    let all = broker.run(&["consume", "t", "--exit-at-end", "--format", "json"]);
    let records: Vec<serde_json::Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 1000);
    let one = records.iter().find(|record| record["key"] == "lz47").unwrap();
    assert_eq!(
        (&one["value"], &one["headers"]),
        (&json!({"n": 7}), &json!([["codec", "x"]]))
    );

    let some = broker.run(&[
        "consume",
        "t",
        "--from",
        "earliest",
        "--max",
        "7",
        "--partition",
        "1",
        "-f",
        "{partition} {offset}",
    ]);
    assert_eq!(
        some.lines().collect::<Vec<_>>(),
        (0..7).map(|n| format!("1 {n}")).collect::<Vec<_>>()
    );
    let later = broker.run(&[
        "consume",
        "t",
        "--from",
        "5",
        "--max",
        "1",
        "--partition",
        "0",
        "-f",
        "{offset}",
    ]);
    assert_eq!(later, "5\n");

    let cut = broker.json(&[
        "topic",
        "delete-records",
        "t",
        "--partition",
        "0",
        "--before",
        "10",
    ]);
    assert_eq!(cut[0]["start_offset"], 10);
    let offsets = broker.json(&["topic", "offsets", "t", "--at", "2020-01-01"]);
    assert_eq!(
        (&offsets[0]["start_offset"], &offsets[0]["offset"]),
        (&json!(10), &json!(10))
    );
    assert!(
        broker
            .fail(&["consume", "t", "--partition", "9", "-e"])
            .contains("no partition 9")
    );
    assert!(
        broker
            .fail(&["consume", "nowhere", "-e"])
            .contains("'nowhere' does not exist")
    );
    assert!(
        broker
            .fail(&["produce", "t", "-k", ":", "/nowhere/at/all"])
            .contains("/nowhere/at/all")
    );
}

#[test]
fn a_group_reads_on_where_it_left() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    let input: String = (0..100).map(|n| format!("{n}\n")).collect();
    broker.run_with(&["produce", "t"], &input);
    let consume =
        |more: &[&str]| broker.run(&[&["consume", "t", "--group", "g", "--from", "earliest"], more].concat());
    assert_eq!(consume(&["--max", "3"]), "0\n1\n2\n");
    assert_eq!(consume(&["--max", "2"]), "3\n4\n");
    let described = broker.json(&["group", "describe", "g"]);
    assert_eq!(
        (
            &described["partitions"][0]["committed"],
            &described["partitions"][0]["lag"]
        ),
        (&json!(5), &json!(95))
    );
    assert_eq!(consume(&["--exit-at-end"]).lines().count(), 95);
    assert_eq!(
        broker.json(&["group", "describe", "g"])["partitions"][0]["lag"],
        0
    );
    assert_eq!(broker.json(&["group", "list"])[0]["group"], "g");

    broker.run(&["group", "reset-offsets", "g", "--to", "90", "--dry-run"]);
    assert_eq!(consume(&["--exit-at-end"]), "");
    broker.run(&["group", "reset-offsets", "g", "--to", "90"]);
    assert_eq!(consume(&["--max", "1"]), "90\n");
    broker.run(&["group", "delete", "g"]);
    assert!(broker.fail(&["group", "delete", "g"]).contains("group list"));
    assert!(
        broker
            .fail(&["group", "describe", "g"])
            .contains("does not exist")
    );
}

#[test]
fn members_of_a_group_share_the_partitions() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "--partitions", "4"]);
    let input: String = (0..400).map(|n| format!("key{n}:{n}\n")).collect();
    broker.run_with(&["produce", "t", "-k", ":"], &input);
    let member = || {
        broker.run(&[
            "consume", "t", "--group", "g", "--from", "earliest", "--idle", "4",
        ])
    };
    let mut seen: Vec<u32> = std::thread::scope(|scope| {
        let members = [scope.spawn(member), scope.spawn(member)];
        let printed = members
            .into_iter()
            .map(|member| member.join().unwrap())
            .collect::<String>();
        printed.lines().map(|line| line.parse().unwrap()).collect()
    });
    // A rebalance in the middle may show a record twice, never not at all.
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
}
