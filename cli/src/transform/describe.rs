//! `millstream transform describe`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Transforms, count, sinks};
use crate::Global;
use crate::amount::show_duration;
use crate::output::{Format, Rows, bytes, print_json, print_text};
use crate::time::show_time;

/// What `transform describe` takes.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Name of the transform
    name: String,
    /// Shows it again every second, until it is interrupted
    #[arg(long)]
    watch: bool,
}

/// Shows it.
pub fn run(global: &Global, http: &Transforms, args: &DescribeArgs) -> anyhow::Result<()> {
    loop {
        let described = http.describe(&args.name)?;
        match global.output {
            Format::Json => print_json(&described)?,
            Format::Table => {
                if args.watch && std::io::stdout().is_terminal() {
                    print_text(CLEAR)?;
                }
                print_text(&page(&described))?;
            }
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// A transform for people: what it is, its partitions, what went wrong.
fn page(described: &Value) -> String {
    let mut page = head(described);
    let partitions = described["partitions"].as_array().map_or(&[][..], Vec::as_slice);
    page.push_str("\n\n");
    page.push_str(&table(partitions));
    let workers = described["workers"].as_array().map_or(&[][..], Vec::as_slice);
    if !workers.is_empty() {
        page.push_str("\n\n");
        page.push_str(&workers_table(workers));
    }
    let wrong: Vec<String> = partitions.iter().flat_map(wrong).collect();
    if !wrong.is_empty() {
        page.push_str("\n\n");
        page.push_str(&wrong.join("\n"));
    }
    page
}

fn head(described: &Value) -> String {
    let spec = &described["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let state = match described["paused"] {
        Value::Bool(true) => "paused",
        _ => "running",
    };
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        items.collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![
        format!(
            "transform {}: {state}, {}, {}, {} at most",
            text(&described["name"]),
            text(&described["current"]["plugin"]),
            text(&spec["guarantee"]),
            count(spec["workers"].as_u64().unwrap_or(0), "worker"),
        ),
        format!(
            "from {} to {}",
            list(&spec["sources"]),
            sinks(&spec["sinks"]).join(", ")
        ),
        format!(
            "commits every {} or {}, on errors: {}",
            show_duration(spec["commit-interval-ms"].as_i64().unwrap_or(0)),
            bytes(spec["commit-bytes"].as_u64().unwrap_or(0)),
            text(&spec["on-error"]),
        ),
    ];
    let config = text(&described["current"]["config"]);
    if !config.is_empty() {
        lines.push(format!("config {config}"));
    }
    if let Some(plugin) = described["previous"]["plugin"].as_str() {
        lines.push(format!("before: {plugin}"));
    }
    if let Some(plugin) = described["canary"]["release"]["plugin"].as_str() {
        let trial = &described["canary"]["trial"];
        lines.push(format!(
            "on trial: {plugin} on {}% of the partitions for {}, with {}‰ errors at most",
            trial["percent"],
            show_duration(trial["promote-after-ms"].as_i64().unwrap_or(0)),
            trial["errors-permille-max"],
        ));
    }
    if let Some(reason) = described["rolled-back"].as_str() {
        lines.push(format!("rolled back: {reason}"));
    }
    lines.join("\n")
}

fn table(partitions: &[Value]) -> String {
    let mut rows = Rows::new(&[
        "topic",
        "partition",
        "state",
        "worker",
        "broker",
        "plugin",
        "committed",
        "lag",
        "in",
        "out",
        "dropped",
        "dead_lettered",
        "ns/record",
        "cost",
    ]);
    for partition in partitions {
        let field = |name: &str| partition[name].clone();
        // What is not known is less than nothing.
        let known = |name: &str| match partition[name].as_i64() {
            Some(number) if number < 0 => Value::Null,
            _ => field(name),
        };
        let worker = match partition["state"] == "unassigned" {
            true => Value::Null,
            false => field("worker"),
        };
        rows.push([
            field("topic"),
            field("partition"),
            field("state"),
            worker,
            known("broker"),
            plugin(partition),
            known("committed"),
            known("lag"),
            field("records-in"),
            field("records-out"),
            field("dropped"),
            field("dead-lettered"),
            json!(partition["ns-per-record"].as_f64().map(|ns| ns.round() as i64)),
            field("cost"),
        ]);
    }
    rows.table()
}

/// What each worker has to do: that is what partitions are given out by.
fn workers_table(workers: &[Value]) -> String {
    let mut rows = Rows::new(&["worker", "broker", "partitions", "cost"]);
    for worker in workers {
        rows.push(["worker", "broker", "partitions", "cost"].map(|name| worker[name].clone()));
    }
    rows.table()
}

fn plugin(partition: &Value) -> Value {
    let plugin = partition["plugin"].as_str().unwrap_or_default();
    match partition["canary"] {
        Value::Bool(true) => json!(format!("{plugin} (trial)")),
        _ => json!(plugin),
    }
}

/// Why a partition does not run, and the last record that its plugin failed on.
fn wrong(partition: &Value) -> Vec<String> {
    let place = format!(
        "{}-{}",
        partition["topic"].as_str().unwrap_or_default(),
        partition["partition"]
    );
    let mut lines = Vec::new();
    if let Some(reason) = partition["reason"].as_str() {
        let state = partition["state"].as_str().unwrap_or_default();
        lines.push(format!("{place} is {state}: {reason}"));
    }
    let error = &partition["last-error"];
    // What stopped the partition is told already.
    let is_told = |reason: &&str| lines.iter().any(|line| line.contains(reason));
    if let Some(reason) = error["reason"].as_str().filter(|reason| !is_told(reason)) {
        let (offset, time) = (
            &error["offset"],
            show_time(error["time-ms"].as_i64().unwrap_or(0)),
        );
        let errors = count(partition["errors"].as_u64().unwrap_or(0), "error");
        lines.push(format!(
            "{place}: {errors}, the last at offset {offset} ({time}): {reason}"
        ));
    }
    lines
}

/// Clears a terminal (ECMA-48: erase in page, cursor position).
const CLEAR: &str = "\x1b[2J\x1b[H";
/// How often a transform is shown again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Value {
        json!({
            "name": "enrich",
            "spec": {
                "sources": ["flights"],
                "sinks": [{"name": "late", "topic": "flights.late"}, {"name": "flights.early", "topic": "flights.early"}],
                "workers": 1, "guarantee": "exactly-once", "commit-interval-ms": 100, "commit-bytes": 1_048_576,
                "on-error": "fail",
            },
            "current": {"plugin": "enrich@1.2.0", "config": ""},
            "canary": {
                "release": {"plugin": "enrich@1.3.0"},
                "trial": {"percent": 10, "errors-permille-max": 10, "promote-after-ms": 60_000},
            },
            "paused": false,
            "workers": [{"worker": 0, "broker": 2, "partitions": 1, "cost": 130}],
            "partitions": [
                {
                    "topic": "flights", "partition": 0, "state": "failed", "reason": "record at offset 812: no JSON", "worker": 0,
                    "broker": 2, "plugin": "enrich@1.3.0", "canary": true, "committed": 812, "lag": 9, "records-in": 813,
                    "records-out": 800, "dropped": 12, "dead-lettered": 0, "errors": 1, "ns-per-record": 512.4, "cost": 130,
                    "last-error": {"offset": 812, "reason": "no JSON", "time-ms": 0},
                },
                {
                    "topic": "flights", "partition": 1, "state": "unassigned", "reason": null, "worker": 0, "broker": -1,
                    "plugin": "enrich@1.2.0", "canary": false, "committed": -1, "lag": -1, "records-in": 0,
                    "records-out": 0, "dropped": 0, "dead-lettered": 0, "errors": 3, "ns-per-record": 0.0, "cost": null,
                    "last-error": {"offset": 7, "reason": "no key", "time-ms": 0},
                },
            ],
        })
    }

    #[test]
    fn people_see_what_runs_and_what_went_wrong() {
        let page = page(&described());
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(
            &lines[..4],
            [
                "transform enrich: running, enrich@1.2.0, exactly-once, 1 worker at most",
                "from flights to late=flights.late, flights.early",
                "commits every 100 ms or 1.0 MiB, on errors: fail",
                "on trial: enrich@1.3.0 on 10% of the partitions for 1 m 0 s, with 10‰ errors at most",
            ]
        );
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let first = "flights 0 failed 0 2 enrich@1.3.0 (trial) 812 9 813 800 12 0 512 130";
        assert_eq!(words(lines[6]), words(first));
        assert_eq!(
            words(lines[7]),
            words("flights 1 unassigned - - enrich@1.2.0 - - 0 0 0 0 0 -")
        );
        assert_eq!(
            lines[8..11]
                .iter()
                .map(|line| words(line).join(" "))
                .collect::<Vec<_>>(),
            ["", "WORKER BROKER PARTITIONS COST", "0 2 1 130"]
        );
        assert_eq!(
            &lines[12..],
            [
                "flights-0 is failed: record at offset 812: no JSON",
                "flights-1: 3 errors, the last at offset 7 (1970-01-01T00:00:00.000Z): no key",
            ]
        );
    }
}
