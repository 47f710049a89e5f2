//! A transform on a cluster: flights are split into late ones and others while a broker that runs it is killed and comes
//! back, while it is upgraded, paused and resumed. Whatever the cluster says of it on the way has to be so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use super::nodes::Cluster;
use super::traffic::{PRODUCERS, Producers, SLICE, Sent};
use super::verdict::judge_sinks;
use super::{COPIES, WAIT, cell, table, wait};
use crate::demo::commands::Commands;
use crate::demo::flights::TOPIC;
use crate::demo::table::Steps;
use crate::{plugins, shell, tools};

/// Runs it.
pub fn run(binary: &Path, brokers: u16, stay: bool) -> anyhow::Result<()> {
    tools::wasm_target()?;
    let component = shell::target_dir().join("split-flights.wasm");
    plugins::component(binary, PROJECT, &component)?;
    let next = |commands: &Commands| {
        let (shown, at) = (crate::demo::shown(&commands.binary), &commands.bootstrap);
        vec![
            format!(
                "{shown} transform describe {NAME} --admin http://{}",
                commands.http
            ),
            format!(
                "{shown} consume {LATE} --from earliest --max 5 --isolation read_committed --bootstrap {at}"
            ),
        ]
    };
    super::on_cluster(binary, brokers, ("--transforms", stay), next, |cluster| {
        show(cluster, &component, brokers)
    })
}

/// The steps, in the order in which they happen.
fn show(cluster: &mut Cluster, component: &Path, brokers: u16) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let all: Vec<u16> = (1..=brokers).collect();
    let commands = cluster.commands()?;
    let component = component.display().to_string();
    let first = push(&commands, &component, "0.1.0", &mut steps)?;
    deploy(&commands, &first, &all, &mut steps)?;

    let producers = Producers::start(&commands)?;
    let begun = Instant::now();
    let usual = usual_lag(&commands, &first, &all)?;
    steps.row(
        "lag while flights come in",
        &format!("{usual} records"),
        &format!("at most, in {} s", BEFORE_KILL.as_secs()),
    );
    kill_and_start_again(cluster, &first, usual, &all, &mut steps)?;

    let commands = cluster.commands()?;
    let second = push(&commands, &component, "0.2.0", &mut steps)?;
    upgrade(&commands, (&first, &second), usual, &all, &mut steps)?;
    pause_and_resume(&commands, &second, usual, &all, &mut steps)?;

    let sent = producers.finish()?;
    steps.row(
        "produce flights, acks=all",
        &format!("{} slices", sent.slices()),
        &format!(
            "of {SLICE} flights, by {PRODUCERS} idempotent producers in {:.1} s",
            begun.elapsed().as_secs_f64()
        ),
    );
    let ended = Instant::now();
    let last = wait("the transform to be done with everything", || {
        let look = Look::at(&commands)?;
        look.runs(&second, &all)?;
        Ok((look.lag() == Some(0)).then_some(look))
    })?;
    steps.row(
        "lag at the end",
        "0 records",
        &format!(
            "on all partitions, {} ms after the producers",
            ended.elapsed().as_millis()
        ),
    );
    show_verdict(&commands, &sent, &mut steps)?;
    show_partitions(&last)
}

/// Stores the component as a version of the plugin; gives what the transform is to run then.
fn push(commands: &Commands, component: &str, version: &str, steps: &mut Steps) -> anyhow::Result<String> {
    let pushed = commands.json(&["plugin", "push", component, "--name", NAME, "--version", version])?;
    let text = |name: &str| pushed[name].as_str().unwrap_or_default().to_owned();
    let size = pushed["size"].as_u64().unwrap_or_default() / 1024;
    steps.row(
        &format!("push plugin {}", text("name")),
        "",
        &format!("{} {}, {size} KiB", text("world"), text("version")),
    );
    Ok(format!("{}@{}", text("name"), text("version")))
}

/// Creates the topic and deploys the transform.
fn deploy(commands: &Commands, plugin: &str, all: &[u16], steps: &mut Steps) -> anyhow::Result<()> {
    let (partitions, copies) = (PARTITIONS.to_string(), COPIES.to_string());
    commands.json(&[
        "topic",
        "create",
        TOPIC,
        "--partitions",
        &partitions,
        "--replication",
        &copies,
    ])?;
    let begun = Instant::now();
    commands.json(&[
        "transform",
        "deploy",
        NAME,
        "--plugin",
        plugin,
        "--from",
        TOPIC,
        "--to",
        &format!("late={LATE},early={EARLY}"),
        "--workers",
        &WORKERS.to_string(),
        "--create-sinks",
    ])?;
    let look = wait("the transform to run", || {
        let look = Look::at(commands)?;
        look.runs(plugin, all)?;
        Ok(Some(look))
    })?;
    steps.row(
        &format!("deploy transform {NAME}"),
        &format!("{PARTITIONS} partitions"),
        &format!(
            "running after {} ms, {} workers: {}",
            begun.elapsed().as_millis(),
            look.workers(),
            look.shares()
        ),
    );
    Ok(())
}

/// The largest lag that is seen while nothing is wrong.
fn usual_lag(commands: &Commands, plugin: &str, all: &[u16]) -> anyhow::Result<i64> {
    let until = Instant::now() + BEFORE_KILL;
    let mut usual = 0;
    while Instant::now() < until {
        let look = Look::at(commands)?;
        look.runs(plugin, all)?;
        usual = usual.max(look.lag().unwrap_or_default());
        sleep(LOOK);
    }
    ensure!(
        Look::at(commands)?.count("records-in") > 0,
        "the transform reads nothing"
    );
    Ok(usual)
}

/// Kills a broker that runs partitions, waits until others run them and have caught up, and starts it again.
fn kill_and_start_again(
    cluster: &mut Cluster,
    plugin: &str,
    usual: i64,
    all: &[u16],
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let look = Look::at(&cluster.commands()?)?;
    let (&victim, run) = look
        .by_broker
        .iter()
        .max_by_key(|(_, run)| **run)
        .context("no broker runs the transform")?;
    let killed = Instant::now();
    cluster.kill(victim)?;
    steps.row(
        &format!("SIGKILL to broker {victim}"),
        &format!("{run} partitions"),
        "of the transform were run by it",
    );

    let left: Vec<u16> = all.iter().copied().filter(|id| *id != victim).collect();
    let commands = cluster.commands()?;
    let look =
        Look::first(&commands, |look| look.runs(plugin, &left)).context("others run its partitions")?;
    steps.row(
        "run by others",
        &format!("{run} partitions"),
        &format!(
            "running again {} ms after the kill: {}",
            killed.elapsed().as_millis(),
            look.shares()
        ),
    );
    let worst = caught_up(&commands, plugin, usual, &left)?;
    steps.row(
        "lag after the kill",
        &format!("{} records", worst.max(look.lag().unwrap_or_default())),
        &format!(
            "seen at most; as before {} ms after the kill",
            killed.elapsed().as_millis()
        ),
    );

    let ready = cluster.start_again(victim)?;
    let started = Instant::now();
    let look = wait("the broker that came back to run partitions", || {
        let look = Look::at(&commands)?;
        look.runs(plugin, all)?;
        Ok(look.by_broker.contains_key(&victim).then_some(look))
    })?;
    steps.row(
        &format!("broker {victim} started again"),
        "",
        &format!(
            "ready in {} ms, runs partitions {} ms later: {}",
            ready.as_millis(),
            started.elapsed().as_millis(),
            look.shares()
        ),
    );
    caught_up(&commands, plugin, usual, all)?;
    Ok(())
}

/// Waits until lag is what it is when nothing is wrong; gives the largest that was seen.
fn caught_up(commands: &Commands, plugin: &str, usual: i64, live: &[u16]) -> anyhow::Result<i64> {
    let mut worst = 0;
    wait("the transform to catch up", || {
        let look = Look::at(commands)?;
        let lag = look.lag();
        worst = worst.max(lag.unwrap_or_default());
        look.runs(plugin, live)?;
        Ok(lag.filter(|lag| *lag <= usual))
    })?;
    Ok(worst)
}

/// Has the newer version go on where the older one is.
fn upgrade(
    commands: &Commands,
    (from, to): (&str, &str),
    usual: i64,
    all: &[u16],
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    commands.json(&["transform", "upgrade", NAME, "--plugin", to])?;
    let look = wait("the release to run", || {
        let look = Look::at(commands)?;
        look.runs(to, all)?;
        Ok(Some(look))
    })?;
    let before = &look.described["previous"]["plugin"];
    ensure!(
        before == from,
        "the release before is said to be {before}, and was {from}"
    );
    let everywhere = begun.elapsed();
    caught_up(commands, to, usual, all)?;
    steps.row(
        &format!("upgrade to {to}"),
        &format!("{PARTITIONS} partitions"),
        &format!(
            "run it after {} ms; lag as before after {} ms",
            everywhere.as_millis(),
            begun.elapsed().as_millis()
        ),
    );
    Ok(())
}

/// Pauses it, sees that offsets stay where they are while records come in, and has it go on.
fn pause_and_resume(
    commands: &Commands,
    plugin: &str,
    usual: i64,
    all: &[u16],
    steps: &mut Steps,
) -> anyhow::Result<()> {
    commands.json(&["transform", "pause", NAME])?;
    wait("the transform to be paused", || {
        let look = Look::at(commands)?;
        look.is(plugin, "paused", all)?;
        Ok(Some(()))
    })?;
    // A commit that is under way is let finish.
    let mut still = commits(commands)?;
    wait("commits to end", || {
        sleep(PAUSED);
        let (before, now) = (still, commits(commands)?);
        still = now;
        Ok((now.0 == before.0 && now.1 > before.1).then_some(()))
    })?;
    let look = Look::at(commands)?;
    look.is(plugin, "paused", all)?;
    let waiting = commits(commands)?;
    ensure!(waiting.0 == still.0, "a paused transform commits");
    steps.row(
        "pause",
        &format!("{} records", waiting.1),
        "wait; nothing is committed while it is paused",
    );

    let begun = Instant::now();
    commands.json(&["transform", "resume", NAME])?;
    wait("the transform to run again", || {
        let look = Look::at(commands)?;
        look.runs(plugin, all)?;
        Ok(Some(()))
    })?;
    let running = begun.elapsed();
    caught_up(commands, plugin, usual, all)?;
    steps.row(
        "resume",
        &format!("{PARTITIONS} partitions"),
        &format!(
            "running after {} ms; lag as before after {} ms",
            running.as_millis(),
            begun.elapsed().as_millis()
        ),
    );
    Ok(())
}

/// What the group of the transform has committed and lacks, over all partitions, as Kafka's clients see it too.
fn commits(commands: &Commands) -> anyhow::Result<(i64, i64)> {
    let group = commands.json(&["group", "describe", &format!("__transform.{NAME}")])?;
    let rows = group["partitions"]
        .as_array()
        .context("the group has no offsets")?;
    ensure!(
        rows.len() == PARTITIONS,
        "the group has offsets of {} partitions",
        rows.len()
    );
    let sum = |name: &str| rows.iter().filter_map(|row| row[name].as_i64()).sum();
    Ok((sum("committed"), sum("lag")))
}

/// Reads everything that is committed, and compares it with what was acknowledged.
fn show_verdict(commands: &Commands, sent: &Sent, steps: &mut Steps) -> anyhow::Result<()> {
    let committed = ["--isolation", "read_committed"];
    let (stored, late, early) = (
        commands.consume(TOPIC, &committed)?,
        commands.consume(LATE, &committed)?,
        commands.consume(EARLY, &committed)?,
    );
    let verdict = judge_sinks(&sent.by_key()?, &stored, &late, &early)?;
    steps.row(
        &format!("topic {TOPIC}"),
        &format!("{} flights", verdict.acknowledged),
        &format!(
            "acknowledged, each is there once; {} not acknowledged, {} records",
            verdict.unsure,
            stored.len()
        ),
    );
    for (sink, records, what) in [(LATE, &late, "late"), (EARLY, &early, "not late")] {
        steps.row(
            &format!("sink {sink}"),
            &format!("{} flights", records.len()),
            &format!("{what}, each came out once, with its delay in a header"),
        );
    }
    Ok(())
}

/// The last table: what the cluster itself says of the transform.
fn show_partitions(look: &Look) -> anyhow::Result<()> {
    println!("\nthe transform {NAME}, as the cluster shows it now");
    let columns = [
        "partition",
        "state",
        "worker",
        "broker",
        "plugin",
        "committed",
        "lag",
        "records-in",
        "records-out",
        "commits",
        "ns-per-record",
    ];
    let rows: Vec<Vec<String>> = look
        .rows
        .iter()
        .map(|row| columns.iter().map(|name| cell(&row[*name])).collect())
        .collect();
    table::print(&columns, &rows);
    Ok(())
}

/// What the cluster says of the transform.
struct Look {
    described: Value,
    rows: Vec<Value>,
    /// Partitions that each broker has.
    by_broker: BTreeMap<u16, usize>,
}

impl Look {
    fn at(commands: &Commands) -> anyhow::Result<Self> {
        let described = commands.json(&["transform", "describe", NAME])?;
        let rows = described["partitions"]
            .as_array()
            .context("the transform has no partitions")?
            .clone();
        let mut by_broker = BTreeMap::new();
        for row in &rows {
            if let Some(broker) = row["broker"].as_u64() {
                *by_broker.entry(u16::try_from(broker)?).or_default() += 1;
            }
        }
        Ok(Self {
            described,
            rows,
            by_broker,
        })
    }

    /// The first that is as it should be. A look that asks a broker which is gone takes until that is known, so each is begun
    /// without waiting for the one before.
    fn first(commands: &Commands, check: impl Fn(&Self) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let (answers, answered) = mpsc::channel();
        let deadline = Instant::now() + WAIT;
        let mut last = anyhow!("nobody answers");
        while Instant::now() < deadline {
            let (commands, answers) = (commands.clone(), answers.clone());
            // Nobody listens to those that come after the first.
            std::thread::spawn(move || answers.send(Self::at(&commands)).unwrap_or_default());
            let Ok(look) = answered.recv_timeout(LOOK) else {
                continue;
            };
            match look.and_then(|look| check(&look).map(|()| look)) {
                Ok(look) => return Ok(look),
                Err(error) => last = error,
            }
        }
        Err(last.context(format!("waited {} s", WAIT.as_secs())))
    }

    /// Checks that every partition runs this plugin on one of these brokers.
    fn runs(&self, plugin: &str, live: &[u16]) -> anyhow::Result<()> {
        self.is(plugin, "running", live)
    }

    fn is(&self, plugin: &str, state: &str, live: &[u16]) -> anyhow::Result<()> {
        ensure!(
            self.rows.len() == PARTITIONS,
            "{} partitions of {PARTITIONS} are shown",
            self.rows.len()
        );
        let current = &self.described["current"]["plugin"];
        ensure!(current == plugin, "{current} is the release, not {plugin}");
        ensure!(
            self.described["paused"] == (state == "paused"),
            "the transform is said to be paused, or not: {}",
            self.described["paused"]
        );
        for row in &self.rows {
            let is_live = row["broker"]
                .as_u64()
                .is_some_and(|broker| live.iter().any(|id| u64::from(*id) == broker));
            if row["state"] != state || row["plugin"] != plugin || !is_live {
                bail!(
                    "partition {} is {} with {} on broker {} ({}); it should be {state} with {plugin} on one of {live:?}",
                    row["partition"],
                    row["state"],
                    row["plugin"],
                    row["broker"],
                    cell(&row["reason"])
                );
            }
        }
        Ok(())
    }

    /// Records that are not done, of all partitions; none while one does not know.
    fn lag(&self) -> Option<i64> {
        let lags = self
            .rows
            .iter()
            .map(|row| row["lag"].as_i64().filter(|lag| *lag >= 0));
        lags.sum()
    }

    fn count(&self, name: &str) -> u64 {
        self.rows.iter().filter_map(|row| row[name].as_u64()).sum()
    }

    fn workers(&self) -> &Value {
        &self.described["spec"]["workers"]
    }

    /// Which broker has how many partitions.
    fn shares(&self) -> String {
        let share = |(broker, run): (&u16, &usize)| format!("{run} on broker {broker}");
        self.by_broker.iter().map(share).collect::<Vec<_>>().join(", ")
    }
}

/// The crate that is built and deployed.
const PROJECT: &str = "examples/split-flights";
const NAME: &str = "split";
const LATE: &str = "flights.late";
const EARLY: &str = "flights.early";
const PARTITIONS: usize = 6;
const WORKERS: usize = 4;
/// How long everything goes on before the kill,
const BEFORE_KILL: Duration = Duration::from_secs(4);
/// and while it is paused, at a time.
const PAUSED: Duration = Duration::from_millis(800);
/// Pause between two looks while nothing is waited for.
const LOOK: Duration = Duration::from_millis(100);
