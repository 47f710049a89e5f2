//! Collects figures and shows them: median and spread for each server, and how they compare.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::server::Kind;

/// All figures of a run, in the order in which they first came.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    kafka: Vec<f64>,
    ours: Vec<f64>,
}

impl Report {
    /// Adds one reading of a figure.
    pub fn add(&mut self, name: &str, kind: Kind, unit: &'static str, value: f64) {
        let row = self.row(name, unit);
        match kind {
            Kind::Kafka => row.kafka.push(value),
            Kind::Millstream => row.ours.push(value),
        }
        eprintln!("  {kind:10} {name:44} {value:10.2} {unit}");
    }

    /// Adds a figure of the machine itself: it stands in our column.
    pub fn add_plain(&mut self, name: &str, unit: &'static str, value: f64) {
        self.row(name, unit).ours.push(value);
        eprintln!("  {:10} {name:44} {value:10.2} {unit}", "");
    }

    /// Notes that a scenario could not be run.
    pub fn fail(&mut self, scenario: &str, kind: Kind, error: &anyhow::Error) {
        self.failures.push(format!("{scenario}, {kind}: {error:#}"));
    }

    /// The median of what Kafka reached so far.
    pub fn kafka_median(&self, name: &str, unit: &str) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| row.name == name && row.unit == unit)?;
        median(&row.kafka)
    }

    fn row(&mut self, name: &str, unit: &'static str) -> &mut Row {
        let found = self
            .rows
            .iter()
            .position(|row| row.name == name && row.unit == unit);
        let at = found.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                unit,
                kafka: vec![],
                ours: vec![],
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Writes every reading as JSON.
    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| json!({ "name": row.name, "unit": row.unit, "kafka": row.kafka, "millstream": row.ours }))
            .collect();
        let document: BTreeMap<&str, Value> =
            BTreeMap::from([("figures", rows.into()), ("failures", json!(self.failures))]);
        std::fs::create_dir_all(path.parent().context("a file in a folder")?)?;
        std::fs::write(path, serde_json::to_string_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = "| --- | --- | --- | --- | --- |";
        writeln!(
            f,
            "| figure | unit | Apache Kafka | Millstream | ours / Kafka's |\n{line}"
        )?;
        for row in &self.rows {
            let ratio = median(&row.kafka)
                .zip(median(&row.ours))
                .map(|(kafka, ours)| ours / kafka);
            let ratio = ratio.map_or("".to_owned(), |ratio| format!("{ratio:.2}"));
            writeln!(
                f,
                "| {} | {} | {} | {} | {ratio} |",
                row.name,
                row.unit,
                shown(&row.kafka),
                shown(&row.ours)
            )?;
        }
        self.failures
            .iter()
            .try_for_each(|failure| writeln!(f, "\nfailed: {failure}"))
    }
}

/// The median, with the smallest and largest reading behind it.
fn shown(values: &[f64]) -> String {
    let Some(median) = median(values) else {
        return String::new();
    };
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    match values.len() {
        1 => number(median),
        _ => format!("{} ({} to {})", number(median), number(low), number(high)),
    }
}

fn number(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
