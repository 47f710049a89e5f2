//! `millstream transform`: plugins that run from topics to topics, inside the brokers.

mod change;
mod deploy;
mod describe;
mod logs;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::Global;
use crate::http::{AdminHttp, segment};
use crate::output::Rows;
use crate::topic::done;

/// Transforms.
#[derive(Debug, Subcommand)]
pub enum TransformCommand {
    /// Deploys a transform, which runs at once
    #[command(after_help = deploy::EXAMPLE)]
    Deploy(deploy::DeployArgs),
    /// Lists transforms, what they run, from where to where, and how many partitions have stopped
    #[command(after_help = "Example:\n  millstream transform list")]
    List,
    /// Shows how every partition of a transform is, and what went wrong
    #[command(after_help = "Example:\n  millstream transform describe enrich --watch")]
    Describe(describe::DescribeArgs),
    /// Stops a transform; its offsets stay
    #[command(after_help = "Example:\n  millstream transform pause enrich")]
    Pause {
        /// Name of the transform
        name: String,
    },
    /// Has a transform go on; partitions that failed begin anew at the record that they failed on
    #[command(after_help = "Example:\n  millstream transform resume enrich")]
    Resume {
        /// Name of the transform
        name: String,
    },
    /// Bounds the workers of a transform
    #[command(after_help = "Example:\n  millstream transform scale enrich 8")]
    Scale {
        /// Name of the transform
        name: String,
        /// Workers at most, over all brokers
        workers: u32,
    },
    /// Runs another version, plugin or configuration: everywhere, or on some partitions first
    #[command(after_help = change::UPGRADE_EXAMPLE)]
    Upgrade(change::UpgradeArgs),
    /// Runs what is on trial on all partitions
    #[command(after_help = "Example:\n  millstream transform promote enrich")]
    Promote {
        /// Name of the transform
        name: String,
    },
    /// Takes back what is on trial, or else the last upgrade
    #[command(after_help = change::ROLLBACK_EXAMPLE)]
    Rollback(change::RollbackArgs),
    /// Has a paused transform go on somewhere else
    #[command(after_help = change::RESET_EXAMPLE)]
    Reset(change::ResetArgs),
    /// Deletes a transform and its offsets; what it has written stays
    #[command(after_help = "Example:\n  millstream transform delete enrich --keep-offsets")]
    Delete(change::DeleteArgs),
    /// Shows what the plugins of a transform logged, on all brokers
    #[command(after_help = "Example:\n  millstream transform logs enrich --follow")]
    Logs(logs::LogsArgs),
}

/// Runs a command.
pub fn run(global: &Global, command: TransformCommand) -> anyhow::Result<()> {
    let http = Transforms(AdminHttp::new(&global.admin));
    match command {
        TransformCommand::Deploy(args) => deploy::run(global, &http, &args),
        TransformCommand::List => list(global, &http),
        TransformCommand::Describe(args) => describe::run(global, &http, &args),
        TransformCommand::Pause { name } => simple(global, &http, &name, ("pause", "paused")),
        TransformCommand::Resume { name } => simple(global, &http, &name, ("resume", "resumed")),
        TransformCommand::Scale { name, workers } => {
            let scaled = http.change(&name, "scale", &json!({ "workers": workers }))?;
            let text = match scaled["changed"] {
                Value::Bool(false) => format!("{name} has {} already", count(workers, "worker")),
                _ => format!("{name} has {} at most", count(workers, "worker")),
            };
            done(global, &text, scaled)
        }
        TransformCommand::Upgrade(args) => change::upgrade(global, &http, &args),
        TransformCommand::Promote { name } => simple(global, &http, &name, ("promote", "promoted")),
        TransformCommand::Rollback(args) => change::rollback(global, &http, &args),
        TransformCommand::Reset(args) => change::reset(global, &http, &args),
        TransformCommand::Delete(args) => change::delete(global, &http, &args),
        TransformCommand::Logs(args) => logs::run(global, &http, &args),
    }
}

/// A change that has nothing to say but its name.
fn simple(
    global: &Global,
    http: &Transforms,
    name: &str,
    (change, past): (&str, &str),
) -> anyhow::Result<()> {
    let changed = http.change(name, change, &json!({}))?;
    let text = match changed["changed"] {
        Value::Bool(false) => format!("{name} was {past} already"),
        _ => format!("{past} {name}"),
    };
    done(global, &text, changed)
}

fn list(global: &Global, http: &Transforms) -> anyhow::Result<()> {
    let transforms = http.all()?;
    let mut rows = Rows::new(&[
        "transform",
        "state",
        "plugin",
        "from",
        "to",
        "workers",
        "partitions",
        "assigned",
        "failed",
        "canary",
    ]);
    for transform in transforms.as_array().into_iter().flatten() {
        let field = |name: &str| transform[name].clone();
        let failed = failed(http, transform);
        let state = match (&transform["paused"], failed) {
            (Value::Bool(true), _) => "paused",
            (_, Some(1..)) => "failed",
            _ => "running",
        };
        rows.push([
            field("name"),
            json!(state),
            field("plugin"),
            field("sources"),
            json!(sinks(&transform["sinks"])),
            field("workers"),
            field("partitions"),
            field("assigned"),
            json!(failed),
            field("canary"),
        ]);
    }
    Ok(rows.print(global.output)?)
}

/// How many partitions of a transform have stopped for good; none where nobody can say so now.
fn failed(http: &Transforms, transform: &Value) -> Option<usize> {
    let described = http.describe(transform["name"].as_str()?).ok()?;
    let partitions = described["partitions"].as_array()?;
    let failed = partitions
        .iter()
        .filter(|partition| partition["state"] == "failed");
    Some(failed.count())
}

/// Sinks as they are given to `--to`.
fn sinks(told: &Value) -> Vec<String> {
    let sink = |sink: &Value| {
        let (name, topic) = (
            sink["name"].as_str().unwrap_or_default(),
            sink["topic"].as_str().unwrap_or_default(),
        );
        match name == topic || name.is_empty() {
            true => topic.to_owned(),
            false => format!("{name}={topic}"),
        }
    };
    told.as_array().into_iter().flatten().map(sink).collect()
}

/// Transforms over the admin interface.
struct Transforms(AdminHttp);

impl Transforms {
    fn all(&self) -> anyhow::Result<Value> {
        self.0.get("/v1/transforms")
    }

    fn deploy(&self, body: &Value, dry_run: bool) -> anyhow::Result<Value> {
        self.0
            .post_json(&format!("/v1/transforms?dry-run={dry_run}"), body)
            .map_err(|error| {
                let text = error.to_string();
                match text.contains("to write to: create it first")
                    || text.contains("dead-letter topic") && text.contains("create it first")
                {
                    true => anyhow!("{text}, or deploy with --create-sinks"),
                    false => error,
                }
            })
    }

    fn describe(&self, name: &str) -> anyhow::Result<Value> {
        self.0.get(&path(name)).map_err(advise)
    }

    fn logs(&self, name: &str) -> anyhow::Result<Value> {
        self.0.get(&format!("{}/logs", path(name))).map_err(advise)
    }

    /// Asks for a change: the last part of its path, with a query if it needs one.
    fn change(&self, name: &str, change: &str, body: &Value) -> anyhow::Result<Value> {
        self.0
            .post_json(&format!("{}/{change}", path(name)), body)
            .map_err(advise)
    }

    fn delete(&self, name: &str, keep_offsets: bool) -> anyhow::Result<()> {
        let path = format!("{}?keep-offsets={keep_offsets}", path(name));
        self.0.delete(&path).map_err(advise)?;
        Ok(())
    }
}

fn path(name: &str) -> String {
    format!("/v1/transforms/{}", segment(name))
}

/// What to do about a refusal, where that is another command.
fn advise(error: anyhow::Error) -> anyhow::Error {
    let text = error.to_string();
    if text.starts_with("there is no transform '") {
        let said = text.split(": ").next().unwrap_or(&text);
        return anyhow!("{said}; 'millstream transform list' shows those that there are");
    }
    match text.ends_with("pause it first") {
        true => anyhow!("{text}, with 'millstream transform pause'"),
        false => error,
    }
}

/// `1 worker`, `4 workers`.
fn count(number: impl Into<u64>, what: &str) -> String {
    match number.into() {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}
