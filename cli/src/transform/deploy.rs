//! `millstream transform deploy`.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{Transforms, count, sinks};
use crate::Global;
use crate::amount::{parse_bytes, parse_duration};
use crate::plugin::chain::read_limit;
use crate::topic::done;

/// What `transform deploy` takes.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Name of the transform
    name: String,
    /// Filter or transform that records go through
    #[arg(long, value_name = "NAME[@VERSION]")]
    plugin: String,
    /// Topics and views that it reads, comma separated
    #[arg(long, required = true, value_delimiter = ',', value_name = "TOPIC,...")]
    from: Vec<String>,
    /// Topics that it writes, comma separated; NAME is what the plugin calls one, by default as the topic is called
    #[arg(long, required = true, value_delimiter = ',', value_name = "[NAME=]TOPIC,...", value_parser = parse_sink)]
    to: Vec<Sink>,
    /// Configuration of the plugin, or @ and a file that has it
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// Workers at most, over all brokers [default: one for each partition that is read, and 4 at most]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// What is promised of the output
    #[arg(long, default_value = "exactly-once")]
    guarantee: Guarantee,
    /// Longest time between two commits: readers of what is committed wait so long
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = parse_duration)]
    commit_interval: Duration,
    /// Bytes read after which there is a commit
    #[arg(long, default_value = "1MiB", value_name = "BYTES", value_parser = parse_bytes)]
    commit_bytes: u64,
    /// Where it begins in partitions that it has no offset for
    #[arg(long, default_value = "earliest")]
    start: Begin,
    /// The same as --start earliest
    #[arg(long, conflicts_with = "start")]
    from_beginning: bool,
    /// What happens to a record that the plugin fails on: fail stops its partition, skip leaves it out
    #[arg(long, default_value = "fail", value_name = "fail|skip|dead-letter:TOPIC", value_parser = parse_on_error)]
    on_error: String,
    /// Limit that replaces that of the plugin, such as fuel=10000000; may be repeated
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = read_limit)]
    limits: Vec<(String, u64)>,
    /// Makes topics that it writes to where there are none, with as many partitions and replicas as the first that it reads
    #[arg(long)]
    create_sinks: bool,
    /// Checks everything, and deploys nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is promised.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Guarantee {
    /// Output and offsets are one transaction
    ExactlyOnce,
    /// Output is written, then the offsets: some of it comes again after a failure
    AtLeastOnce,
}

/// Where it begins.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Begin {
    /// With the first record that there is
    Earliest,
    /// With what comes next
    Latest,
}

/// A topic that is written to, and what the plugin calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sink {
    name: Option<String>,
    topic: String,
}

/// Deploys it.
pub fn run(global: &Global, http: &Transforms, args: &DeployArgs) -> anyhow::Result<()> {
    let deployed = http.deploy(&args.body()?, args.dry_run)?;
    let transform = &deployed["transform"];
    let text = |name: &str| transform[name].as_str().unwrap_or_default().to_owned();
    let workers = count(transform["workers"].as_u64().unwrap_or(0), "worker");
    let what = format!(
        "{} ({}), from {} to {}, {workers}",
        text("name"),
        text("plugin"),
        args.from.join(", "),
        sinks(&transform["sinks"]).join(", ")
    );
    let line = match args.dry_run {
        true => format!("{what}: it can be deployed"),
        false => format!("deployed {what}"),
    };
    done(global, &line, deployed)
}

impl DeployArgs {
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = json!({
            "name": self.name,
            "plugin": self.plugin,
            "sources": self.from,
            "sinks": self.to.iter().map(Sink::body).collect::<Vec<_>>(),
            "guarantee": match self.guarantee {
                Guarantee::ExactlyOnce => "exactly-once",
                Guarantee::AtLeastOnce => "at-least-once",
            },
            "commit-interval-ms": u64::try_from(self.commit_interval.as_millis()).unwrap_or(u64::MAX).min(NUMBER_MAX),
            "commit-bytes": self.commit_bytes.min(NUMBER_MAX),
            "start": match (self.from_beginning, self.start) {
                (true, _) | (_, Begin::Earliest) => "earliest",
                (_, Begin::Latest) => "latest",
            },
            "on-error": self.on_error,
            "limits": self.limits.iter().map(|(name, amount)| (name.clone(), json!(amount))).collect::<Map<_, _>>(),
            "create-sinks": self.create_sinks,
        });
        if let Some(config) = &self.config {
            body["config"] = json!(read_config(config)?);
        }
        if let Some(workers) = self.workers {
            body["workers"] = json!(workers);
        }
        Ok(body)
    }
}

impl Sink {
    fn body(&self) -> Value {
        match &self.name {
            Some(name) => json!({"name": name, "topic": self.topic}),
            None => json!({"topic": self.topic}),
        }
    }
}

/// A configuration as it is given, or the file that `@` names.
pub fn read_config(text: &str) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        Some(file) => {
            let read = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
            Ok(read.trim().to_owned())
        }
        None => Ok(text.to_owned()),
    }
}

fn parse_sink(text: &str) -> Result<Sink, String> {
    let (name, topic) = match text.split_once('=') {
        Some((name, topic)) => (Some(name.trim()), topic.trim()),
        None => (None, text.trim()),
    };
    match topic.is_empty() || name == Some("") {
        true => Err("expected TOPIC or NAME=TOPIC".to_owned()),
        false => Ok(Sink {
            name: name.map(str::to_owned),
            topic: topic.to_owned(),
        }),
    }
}

fn parse_on_error(text: &str) -> Result<String, String> {
    let is_policy = matches!(text, "fail" | "skip")
        || text
            .strip_prefix("dead-letter:")
            .is_some_and(|topic| !topic.is_empty());
    match is_policy {
        true => Ok(text.to_owned()),
        false => Err("expected fail, skip or dead-letter:TOPIC".to_owned()),
    }
}

/// The largest number that the interface reads here; whether it makes sense, the broker says.
const NUMBER_MAX: u64 = u32::MAX as u64;

pub const EXAMPLE: &str = r#"Examples:
  millstream transform deploy late --plugin filter-json --from flights \
      --to flights.late --config '{"where":"/dep_delay > 30"}' --create-sinks
  millstream transform deploy by-delay --plugin route@1.0.0 --from flights \
      --to late=flights.late,early=flights.early --config @route.json \
      --workers 4 --on-error dead-letter:flights.dead"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_may_have_a_name_of_their_own() {
        let sink = |name: Option<&str>, topic: &str| Sink {
            name: name.map(str::to_owned),
            topic: topic.to_owned(),
        };
        assert_eq!(
            parse_sink("late=flights.late"),
            Ok(sink(Some("late"), "flights.late"))
        );
        assert_eq!(parse_sink("flights.late"), Ok(sink(None, "flights.late")));
        for wrong in ["", "=", "late=", "=flights.late"] {
            assert!(parse_sink(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn policies_are_known() {
        for policy in ["fail", "skip", "dead-letter:dead"] {
            assert!(parse_on_error(policy).is_ok());
        }
        for wrong in ["", "ignore", "dead-letter", "dead-letter:"] {
            assert!(parse_on_error(wrong).is_err(), "{wrong}");
        }
    }
}
