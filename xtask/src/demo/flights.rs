//! The flights example itself: its topic with a partitioner and an ingest filter, its view, and what must come out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::commands::Commands;
use super::table::Steps;

/// Stores the shipped plugins.
pub fn push(commands: &Commands, components: &[PathBuf], steps: &mut Steps) -> anyhow::Result<()> {
    for component in components {
        let pushed = commands.json(&["plugin", "push", &component.display().to_string()])?;
        let text = |name: &str| pushed[name].as_str().unwrap_or_default().to_owned();
        let size = pushed["size"].as_u64().unwrap_or_default() / 1024;
        steps.row(
            &format!("push plugin {}", text("name")),
            "",
            &format!("{} {}, {size} KiB", text("world"), text("version")),
        );
    }
    Ok(())
}

/// Creates the topic and its view; `more` says how the topic is created beyond its partitions.
pub fn create(commands: &Commands, more: &[&str]) -> anyhow::Result<()> {
    commands.json(&[&["topic", "create", TOPIC, "--partitions", "6"], more].concat())?;
    commands.json(&[
        "topic",
        "alter",
        TOPIC,
        "--config",
        "millstream.partitioner=by-field",
        "--config",
        PARTITIONER_CONFIG,
    ])?;
    commands.json(&[
        "topic",
        "alter",
        TOPIC,
        "--ingest",
        "validate-json",
        "--ingest-config",
        INGEST_CONFIG,
    ])?;
    commands.json(&[
        "view",
        "create",
        VIEW,
        "--source",
        TOPIC,
        "--plugin",
        "filter-json",
        "--config",
        r#"{"where":"/dep_delay > 30"}"#,
        "--plugin",
        "mask",
        "--config",
        r#"{"pointers":["/tailnum"]}"#,
    ])?;
    Ok(())
}

/// Which partition each carrier's flights are in; one carrier in two would be the partitioner's fault.
pub fn partitions_by_carrier(records: &[Value]) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut partitions = BTreeMap::new();
    for record in records {
        let carrier = flight(record)?["carrier"]
            .as_str()
            .context("a flight without carrier was stored")?
            .to_owned();
        let partition = record["partition"]
            .as_i64()
            .context("a record without partition")?;
        let first = *partitions.entry(carrier.clone()).or_insert(partition);
        ensure!(
            first == partition,
            "carrier {carrier} is in partitions {first} and {partition}"
        );
    }
    Ok(partitions)
}

/// Compares the view with what the plugins should have made of its source; gives how many tail numbers were masked.
pub fn check_view(source: &[Value], view: &[Value]) -> anyhow::Result<usize> {
    let mut expected = BTreeMap::new();
    for record in source {
        let flight = flight(record)?;
        if is_late(flight) {
            expected.insert(place(record), flight["tailnum"].clone());
        }
    }
    ensure!(
        view.len() == expected.len(),
        "the view has {} records, its source {} delayed flights",
        view.len(),
        expected.len()
    );
    let mut masked = 0;
    for record in view {
        let tail = expected
            .get(&place(record))
            .context("the view has a record that is not in its source")?;
        let shown = &flight(record)?["tailnum"];
        ensure!(
            tail.is_null() || shown != tail,
            "tail number {tail} is not masked"
        );
        masked += usize::from(!tail.is_null());
    }
    Ok(masked)
}

/// Whether the view shows a flight.
pub fn is_late(flight: &Value) -> bool {
    flight["dep_delay"].as_i64().is_some_and(|delay| delay > 30)
}

/// The flight in a record: its value stands in the output as the JSON that it is.
fn flight(record: &Value) -> anyhow::Result<&Value> {
    let flight = &record["value"];
    ensure!(
        flight.is_object(),
        "a record that is no JSON object was stored: {flight}"
    );
    Ok(flight)
}

/// Where a record is: its partition and its offset.
pub fn place(record: &Value) -> (Option<i64>, Option<i64>) {
    (record["partition"].as_i64(), record["offset"].as_i64())
}

/// The flights, a line each.
pub const FLIGHTS: &str = "examples/flights/flights.jsonl";
/// Lines that are no flights, for the ingest filter.
pub const MALFORMED: &str = "examples/flights/malformed.jsonl";
/// Topic of the flights.
pub const TOPIC: &str = "flights";
/// View of those that were late.
pub const VIEW: &str = "flights.delayed";
/// Group that reads the view.
pub const GROUP: &str = "demo";
const PARTITIONER_CONFIG: &str = r#"millstream.partitioner.config={"pointer":"/carrier"}"#;
const INGEST_CONFIG: &str = r#"{"invalid":"drop","required":{"/year":"integer","/month":"integer","/day":"integer",
    "/carrier":"string","/flight":"integer","/origin":"string","/dest":"string","/distance":"integer",
    "/time_hour":"string","/dep_delay":["integer","null"]}}"#;
