//! What somebody meets who has just built the binary: a broker without a flag, templates, mistakes in the arguments.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use millstream_kafka::records::EndTransaction;
use serde_json::json;

use crate::support::Broker;

/// The command line in some directory, with nothing of ours in its environment.
fn millstream(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.current_dir(directory).stdin(Stdio::null());
    command
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} said: {stderr}");
    output
}

/// The one line of a command that fails with this status.
#[track_caller]
fn fail(status: i32, arguments: &[&str]) -> String {
    let output = millstream(Path::new(".")).args(arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?} said: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed something");
    assert_eq!(stderr.lines().count(), 1, "more than a line: {stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    stderr.trim_end().to_owned()
}

#[test]
fn a_broker_needs_no_flag() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = millstream(directory.path());
    // The default ports may be taken where tests run; the variables stand for the flags.
    command
        .args(["broker"])
        .env("MILLSTREAM_KAFKA", "127.0.0.1:0")
        .env("MILLSTREAM_HTTP", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    assert!(
        ready.starts_with("ready: Kafka on 127.0.0.1:") && ready.contains("HTTP on http://127.0.0.1:"),
        "{ready}"
    );
    assert!(directory.path().join("millstream-data/meta.properties").exists());
    let interrupted = Command::new("kill")
        .args(["-INT", &process.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_broker_without_flags_listens_where_the_readme_says() {
    let shown = succeed(millstream(Path::new(".")).args(["broker", "--show-settings"]));
    let shown = String::from_utf8(shown.stdout).unwrap();
    for line in [
        "\"millstream.data.dir\" = \"./millstream-data\"",
        "\"millstream.kafka.listen\" = \"127.0.0.1:9092\"",
        "\"millstream.http.listen\" = \"127.0.0.1:9644\"",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
}

#[test]
fn a_variable_that_nearly_names_a_setting_is_told_of() {
    let mut command = millstream(Path::new("."));
    command
        .args(["broker", "--show-settings"])
        .env("MILLSTREAM_NUM_PARTITION", "3")
        .env("MILLSTREAM_SERVICE_HOST", "10.0.0.1")
        .env("MILLSTREAM_BOOTSTRAP", "127.0.0.1:9092")
        .env("MILLSTREAM_ADMIN", "127.0.0.1:9644")
        .env("MILLSTREAM_OUTPUT", "json")
        .env("MILLSTREAM_LOG", "info");
    let stderr = String::from_utf8(succeed(&mut command).stderr).unwrap();
    assert!(stderr.contains("MILLSTREAM_NUM_PARTITIONS"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn every_template_builds_passes_its_test_and_runs() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let (here, target) = (directory.path(), directory.path().join("elsewhere"));
    for (world, tests) in [("filter", 1), ("partitioner", 1), ("transform", 2)] {
        let name = format!("my-{world}");
        succeed(millstream(here).args(["plugin", "new", &name, "--lang", "rust", "--world", world]));
        let project = here.join(&name);
        let mut cargo = Command::new("cargo");
        let tested = succeed(
            cargo
                .args(["test", "--offline"])
                .current_dir(&project)
                .env("CARGO_TARGET_DIR", &target),
        );
        let tested = String::from_utf8(tested.stdout).unwrap();
        assert!(tested.contains(&format!("{tests} passed; 0 failed")), "{tested}");
        // The component lands in the project also where cargo builds elsewhere.
        let mut build = millstream(&project);
        succeed(build.args(["plugin", "build"]).env("CARGO_TARGET_DIR", &target));
        let component = project.join(format!("target/my_{world}.wasm"));
        let pushed = broker.json(&[
            "plugin",
            "push",
            component.to_str().unwrap(),
            "--limit",
            "memory-bytes=16777216",
        ]);
        assert_eq!(
            (&pushed["name"], &pushed["version"], &pushed["world"]),
            (&json!(name), &json!("0.1.0"), &json!(world))
        );
        assert_eq!(pushed["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(
            pushed["size"],
            json!(std::fs::metadata(&component).unwrap().len())
        );
    }

    broker.run(&["topic", "create", "t", "--partitions", "4"]);
    broker.run(&[
        "topic",
        "alter",
        "t",
        "-c",
        "millstream.partitioner=my-partitioner",
    ]);
    broker.run(&[
        "topic",
        "alter",
        "t",
        "--ingest",
        "my-filter",
        "--ingest-config",
        "a",
    ]);
    broker.run(&[
        "view",
        "create",
        "loud",
        "--source",
        "t",
        "--plugin",
        "my-transform@latest",
    ]);
    broker.run_with(&["produce", "t", "-k", ":"], "x:a1\nx:b\nx:a2\nx:a3\n");
    let read = broker.run(&["consume", "loud", "--group", "g", "--from", "earliest", "-e"]);
    assert_eq!(read, "A1\nA2\nA3\n", "one key is one partition, in order");
    let lag = broker.json(&["group", "describe", "g"])["partitions"].clone();
    let lag = lag.as_array().unwrap().iter().map(|row| row["lag"].as_i64());
    assert_eq!(lag.sum::<Option<i64>>(), Some(0));
    let table = broker.run(&["plugin", "list"]);
    for told in ["my-filter", "t (ingest", "t (partitioner", "loud (view"] {
        assert!(table.contains(told), "{told} is not in {table}");
    }
    let described = broker.run(&["plugin", "describe", "my-transform"]);
    assert!(described.contains("NS PER RECORD"), "{described}");
}

#[test]
fn a_plugin_is_tried_on_records_as_they_were_consumed() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    // Bytes that are no text go by another name, in hexadecimal.
    broker.run_with(&["produce", "t", "-k", ":"], "k:yes\nk:no\n");
    let consumed = broker.run(&["consume", "t", "-e", "--format", "json"]);
    let odd = r#"{"key":null,"value_hex":"ff7965"}"#;
    std::fs::write(here.join("records.jsonl"), format!("{consumed}{odd}\n")).unwrap();
    std::fs::write(here.join("values.jsonl"), "{\"carrier\":\"UA\"}\n").unwrap();
    succeed(millstream(here).args(["plugin", "new", "texts"]));
    succeed(millstream(here).args(["plugin", "build", "texts", "--out", "texts.wasm"]));
    let test = |input: &str| {
        let mut command = millstream(here);
        command.args(["plugin", "test", "texts.wasm", "--config", "ye", "--input", input]);
        command.args(["--input-format", "json", "--out", "kept"]);
        command.output().unwrap()
    };
    let output = test("records.jsonl");
    let table = String::from_utf8(output.stdout).unwrap();
    for told in [
        "records in       3",
        "records out      2",
        "dropped          1",
        "errors           0",
        "ns per record",
        "fuel per record",
        "peak memory",
    ] {
        assert!(table.contains(told), "{told} is not in {table}");
    }
    assert_eq!(std::fs::read(here.join("kept")).unwrap(), b"yes\n\xffye\n");
    let output = test("values.jsonl");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("line 1 of values.jsonl is no record"), "{said}");
}

#[test]
fn mistakes_in_the_arguments_take_one_line() {
    for (arguments, told) in [
        (&["topc"][..], "a similar subcommand exists: 'topic'"),
        (&["topic", "create"], "not provided: <TOPIC>"),
        (&["topic", "create", "t", "--partition", "3"], "'--partitions'"),
        (&["topic", "create", "t", "--partitions", "many"], "'many'"),
        (&["topic", "create", "t", "--config", "x"], "expected KEY=VALUE"),
        (
            &["topic", "list", "--output", "yaml"],
            "[possible values: table, json]",
        ),
        (&["consume", "t", "--from", "soon"], "2026-11-24T15:30:00Z"),
        (&["consume", "t", "--format", "{x}"], "unknown field '{x}'"),
        (
            &["consume", "t", "--group", "g", "--partition", "1"],
            "cannot be used with",
        ),
        (
            &["view", "create", "v", "--source", "t", "--config", "{}"],
            "there is none",
        ),
        (
            &["plugin", "push", "x.wasm", "--limit", "fuel=much"],
            "whole number",
        ),
        (
            &["plugin", "new", "x", "--lang", "cobol"],
            "[possible values: rust]",
        ),
    ] {
        let said = fail(2, arguments);
        assert!(
            said.contains(told) && said.ends_with("; --help tells more"),
            "{said}"
        );
    }
    // An incomplete command shows what would complete it.
    let output = millstream(Path::new(".")).arg("topic").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("delete-records")
    );
    let help = succeed(millstream(Path::new(".")).args(["topic", "create", "--help"]));
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("Example:\n  millstream ")
    );
}

#[test]
fn an_address_that_does_not_answer_is_named() {
    let broker = Broker::start();
    let admin = format!("http://{}", broker.kafka);
    let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = bound.local_addr().unwrap().to_string();
    drop(bound);
    let said = fail(1, &["topic", "list", "--bootstrap", &closed]);
    assert!(
        said.contains(&closed) && said.contains("is the broker running?"),
        "{said}"
    );
    let said = fail(1, &["plugin", "list", "--admin", &closed]);
    assert!(
        said.contains(&closed) && said.contains("--admin names another"),
        "{said}"
    );
    // Each address in the place of the other.
    let said = fail(1, &["topic", "list", "--bootstrap", &broker.http]);
    assert!(said.contains("it speaks HTTP"), "{said}");
    let said = fail(1, &["view", "list", "--admin", &admin]);
    assert!(said.contains(&admin), "{said}");
    // A flag wins over the variable.
    assert_eq!(
        broker.json(&["topic", "list", "--bootstrap", &broker.kafka]),
        json!([])
    );
    assert!(
        broker
            .fail(&["topic", "list", "--bootstrap", &closed])
            .contains(&closed)
    );
}

#[test]
fn what_cannot_be_deleted_whole_stays_whole() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "a"]);
    broker.run(&["view", "create", "v", "--source", "a"]);
    broker.run_with(&["produce", "a"], "1\n");
    broker.run(&["consume", "a", "--group", "g", "--from", "earliest", "-e"]);
    assert!(broker.fail(&["view", "delete", "v", "a"]).contains("not a view"));
    assert!(
        broker
            .fail(&["topic", "delete", "v", "nowhere"])
            .contains("nowhere")
    );
    assert!(
        broker
            .fail(&["group", "delete", "g", "nobody"])
            .contains("nobody")
    );
    assert_eq!(broker.json(&["view", "list"])[0]["view"], "v");
    assert_eq!(broker.json(&["group", "list"])[0]["group"], "g");
    let said = broker.fail(&[
        "topic",
        "delete-records",
        "a",
        "--partition",
        "7",
        "--before",
        "1",
    ]);
    assert!(said.contains("'a' has no partition 7"), "{said}");
}

#[test]
fn how_large_a_record_may_be_is_for_its_topic_to_say() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "small"]);
    broker.run(&["topic", "create", "large", "-c", "max.message.bytes=4000000"]);
    let line = "x".repeat(3_000_000);
    broker.run_with(&["produce", "large"], &line);
    assert_eq!(broker.run(&["consume", "large", "-e"]).len(), line.len() + 1);
    let said = broker.fail_with(&["produce", "small"], &line);
    assert!(said.contains("max.message.bytes"), "{said}");
}

#[test]
fn a_group_with_members_is_not_moved() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    let mut command = millstream(broker.directory.path());
    command.args(["consume", "t", "--group", "g", "--bootstrap", &broker.kafka]);
    let mut member = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while broker.json(&["group", "list"])[0]["state"] != "Stable" {
        assert!(Instant::now() < deadline, "the member does not join");
    }
    let told = broker.run(&["group", "describe", "g"]);
    assert!(told.starts_with("group g: Stable, 1 member\n"), "{told}");
    for refused in [
        &["group", "reset-offsets", "g", "--topic", "t", "--to", "0"][..],
        &["group", "delete", "g"],
    ] {
        let said = broker.fail(refused);
        assert!(said.contains("members"), "{said}");
    }
    let interrupted = Command::new("kill")
        .args(["-INT", &member.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    assert!(member.wait().unwrap().success());
    broker.run(&["group", "reset-offsets", "g", "--topic", "t", "--to", "0"]);
}

#[test]
fn log_files_are_shown_without_a_broker() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    broker.run_with(&["produce", "t", "-k", ":", "-H", "h=1"], "k:v\n");
    let (directory, _) = broker.stop();
    let data = directory.path().join("data");
    let dump = |arguments: &[&str]| {
        let mut command = millstream(&data);
        let output = command.args(["log", "dump"]).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            text,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, text, _) = dump(&["t-0", "--records"]);
    assert_eq!(status, Some(0));
    assert!(
        text.contains("crc_valid=true") && text.contains("key=\"k\""),
        "{text}"
    );
    let (_, text, _) = dump(&["t-0", "--records", "--output", "json"]);
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let record = lines.iter().find(|line| line["kind"] == "record").unwrap();
    assert_eq!(
        (&record["value"], &record["headers"]),
        (&json!("v"), &json!([["h", "1"]]))
    );
    // How transactions ended, and which were aborted.
    let transactions = data.join("transactions-0");
    std::fs::create_dir(&transactions).unwrap();
    let end = EndTransaction {
        is_commit: false,
        coordinator_epoch: 5,
    };
    let base = "00000000000000000000";
    std::fs::write(
        transactions.join(base).with_extension("log"),
        end.to_batch(7, 0, 0),
    )
    .unwrap();
    let aborted: Vec<u8> = [7_i64, 1, 3, 2]
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .collect();
    let entry = [&[0, 0][..], &aborted].concat();
    std::fs::write(transactions.join(base).with_extension("txnindex"), entry).unwrap();
    let (status, text, _) = dump(&["transactions-0"]);
    assert_eq!(status, Some(0));
    for expected in [
        "marker=\"abort\"",
        "coordinator_epoch=5",
        "aborted first_offset=1 last_offset=3",
    ] {
        assert!(text.contains(expected), "{text}");
    }

    // The data directory holds partitions, and a log of another kind.
    let (status, _, said) = dump(&["."]);
    assert_eq!(status, Some(1));
    assert!(said.contains("TOPIC-PARTITION"), "{said}");

    let segment = data.join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (status, text, said) = dump(&["t-0"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("crc_valid=false"), "{text}");
    assert!(
        said.starts_with("error: 1 damaged places; the first: t-0/"),
        "{said}"
    );
}

#[test]
fn nothing_is_drawn_where_no_terminal_is() {
    let broker = Broker::start();
    let input: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let file = broker.directory.path().join("lines");
    std::fs::write(&file, &input).unwrap();
    for quiet in [&["--quiet"][..], &[]] {
        let mut command = millstream(broker.directory.path());
        command.args(["produce", "t", "lines", "--bootstrap", &broker.kafka]);
        let output = succeed(command.args(quiet));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.starts_with("records             20000\n"), "{table}");
    }
}
