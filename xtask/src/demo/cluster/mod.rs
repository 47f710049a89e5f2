//! The example on a cluster: the leader of a partition is killed half-way, while producers and the consumer of the view
//! go on, and comes back.

mod nodes;
mod traffic;
pub mod transforms;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::commands::Commands;
use super::flights::{self, GROUP, TOPIC, VIEW};
use super::process;
use super::table::{self, Steps};
use nodes::{Cluster, RACKS};
use traffic::{PRODUCERS, Producers, Reader, SLICE, Sent};
use verdict::judge;

/// Runs it.
pub fn run(binary: &Path, components: &[PathBuf], brokers: u16, stay: bool) -> anyhow::Result<()> {
    let next = |commands: &Commands| {
        let (shown, at) = (super::shown(&commands.binary), &commands.bootstrap);
        vec![
            format!("{shown} topic describe {TOPIC} --bootstrap {at}"),
            format!("{shown} cluster brokers --admin http://{}", commands.http),
        ]
    };
    let options = format!("--brokers {brokers}");
    on_cluster(binary, brokers, (&options, stay), next, |cluster| {
        show(cluster, components, brokers)
    })
}

/// Starts a cluster, shows something on it and what to try next, and ends it, or stays if that is asked for. The options
/// are those that do so again.
fn on_cluster(
    binary: &Path,
    brokers: u16,
    (options, stay): (&str, bool),
    next: impl FnOnce(&Commands) -> Vec<String>,
    show: impl FnOnce(&mut Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut cluster, took) = Cluster::start(binary, super::data_dir(), brokers)?;
    let commands = cluster.commands()?;
    println!(
        "\n{brokers} brokers ready in {} ms: Kafka on {}, HTTP on http://{}\n",
        took.as_millis(),
        commands.bootstrap,
        commands.http
    );
    if let Err(error) = show(&mut cluster) {
        cluster.keep();
        let place = cluster.place.display();
        return Err(error.context(format!("what the brokers wrote is left in {place}")));
    }
    super::try_next(&next(&commands), &format!("{options} --stay"), stay);
    if stay {
        println!("\nThe brokers stay up; Ctrl-C ends them.");
        process::stay(|| cluster.is_up())?;
    }
    cluster.stop()
}

/// The steps, in the order in which they happen.
fn show(cluster: &mut Cluster, components: &[PathBuf], brokers: u16) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let commands = cluster.commands()?;
    flights::push(&commands, components, &mut steps)?;
    flights::create(&commands, &["--replication", &COPIES.to_string()])?;
    steps.row(
        "brokers",
        "",
        &format!(
            "{brokers} on {} racks, {COPIES} copies of each partition",
            RACKS.len().min(usize::from(brokers))
        ),
    );

    let reader = Reader::start(&commands, &cluster.place)?;
    let producers = Producers::start(&commands)?;
    let begun = Instant::now();
    sleep(BEFORE_KILL);
    let absence = kill_and_start_again(cluster, &mut steps)?;
    sleep(AFTER_RETURN);
    let sent = producers.finish()?;
    let ended = Instant::now();
    let commands = cluster.commands()?;
    steps.row(
        "produce flights, acks=all",
        &format!("{} slices", sent.slices()),
        &format!(
            "of {SLICE} flights, by {PRODUCERS} idempotent producers in {:.1} s",
            (ended - begun).as_secs_f64()
        ),
    );
    show_pauses(&sent, begun, &absence, ended, &mut steps)?;
    show_verdict(&commands, &sent, reader, &mut steps)?;
    show_cluster(cluster)
}

/// When a broker was away.
struct Absence {
    killed: Instant,
    started: Instant,
}

/// Kills the leader of the first partition with SIGKILL, starts it again, and waits until nothing is missing on it.
fn kill_and_start_again(cluster: &mut Cluster, steps: &mut Steps) -> anyhow::Result<Absence> {
    let commands = cluster.commands()?;
    let before = partitions(&commands)?;
    let victim = before.first().and_then(|row| row["leader"].as_u64());
    let victim = u16::try_from(victim.context("partition 0 has no leader")?)?;
    let led = led_by(&before, victim);
    let killed = Instant::now();
    cluster.kill(victim)?;
    steps.row(
        &format!("SIGKILL to broker {victim}"),
        &format!("{led} partitions"),
        "of the topic were led by it",
    );

    let commands = cluster.commands()?;
    let moved = wait("other leaders", || {
        let rows = partitions(&commands)?;
        let leaderless = rows.iter().any(|row| row["leader"].as_i64().unwrap_or(-1) < 0);
        Ok((!leaderless && led_by(&rows, victim) == 0).then_some(rows))
    })?;
    let elected = killed.elapsed();
    let leaders: BTreeSet<_> = moved.iter().filter_map(|row| row["leader"].as_i64()).collect();
    let leaders: Vec<String> = leaders.iter().map(i64::to_string).collect();
    steps.row(
        "new leaders",
        &format!("{led} partitions"),
        &format!(
            "all {} are led by brokers {} after {} ms",
            moved.len(),
            leaders.join(" and "),
            elected.as_millis()
        ),
    );
    sleep(AWAY);

    let ends = ends(&partitions(&commands)?);
    let started = Instant::now();
    let ready = cluster.start_again(victim)?;
    steps.row(
        &format!("broker {victim} started again"),
        "",
        &format!("ready in {} ms", ready.as_millis()),
    );
    wait("the broker that came back to be in sync", || {
        let rows = partitions(&commands)?;
        let in_sync = rows.iter().all(|row| count(&row["in_sync"]) >= COPIES);
        let brokers = commands.rows(&["cluster", "brokers"])?;
        let whole = brokers
            .iter()
            .all(|row| row["state"] == "serving" && row["lagging"] == 0);
        Ok((in_sync && whole).then_some(()))
    })?;
    steps.row(
        &format!("broker {victim} caught up"),
        &format!("{ends} records"),
        &format!(
            "and what came meanwhile: in sync everywhere {} ms after its start",
            started.elapsed().as_millis()
        ),
    );
    Ok(Absence { killed, started })
}

/// How long writes paused: the longest time from the end of an acknowledged slice of a producer to the end of its next.
fn show_pauses(
    sent: &Sent,
    begun: Instant,
    absence: &Absence,
    ended: Instant,
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let usual = sent.gaps(begun, absence.killed);
    let usual = usual
        .get(usual.len() / 2)
        .context("no slice was acknowledged before the kill")?;
    let longest = |from: Instant, to: Instant| sent.gaps(from, to).last().copied();
    let kill =
        longest(absence.killed, absence.started).context("no slice was acknowledged after the kill")?;
    let back = longest(absence.started, ended).context("no slice was acknowledged after the return")?;
    steps.row(
        "writes paused at the kill",
        &format!("{} ms", kill.as_millis()),
        &format!(
            "longest from one acknowledged slice of a producer to its next; {} ms is usual",
            usual.as_millis()
        ),
    );
    steps.row(
        "writes after the return",
        &format!("{} ms", back.as_millis()),
        "longest in the same measure",
    );
    Ok(())
}

/// Reads everything that came out, and compares it with what was acknowledged.
fn show_verdict(
    commands: &Commands,
    sent: &Sent,
    mut reader: Reader,
    steps: &mut Steps,
) -> anyhow::Result<()> {
    let stored = commands.consume(TOPIC, &[])?;
    let view = commands.consume(VIEW, &[])?;
    reader.wait_for(view.len())?;
    let read = reader.finish()?;
    let verdict = judge(&sent.by_key()?, &stored, &view, &read)?;
    ensure!(
        verdict.late > 0,
        "no flight was late: the view has nothing to show"
    );
    steps.row(
        &format!("topic {TOPIC}"),
        &format!("{} flights", verdict.acknowledged),
        &format!(
            "acknowledged, each is there once; {} not acknowledged, {} records",
            verdict.unsure, verdict.stored
        ),
    );
    steps.row(
        "partitioner by-field",
        &format!("{} records", verdict.stored),
        &format!("{} carriers, none on two partitions", verdict.carriers),
    );
    steps.row(
        &format!("view {VIEW}"),
        &format!("{} flights", verdict.late),
        &format!(
            "late and acknowledged, each came out once; {} tail numbers masked",
            verdict.masked
        ),
    );
    steps.row(
        &format!("consumer group {GROUP}"),
        &format!("{} records", view.len()),
        &format!(
            "all read while this went on, {} of them a second time",
            verdict.again
        ),
    );
    Ok(())
}

/// The last tables: what the brokers themselves say of the cluster now.
fn show_cluster(cluster: &Cluster) -> anyhow::Result<()> {
    let commands = cluster.commands()?;
    let lags = cluster.follower_lag(TOPIC)?;
    let group = commands.json(&["group", "describe", GROUP])?;
    let offsets = group["offsets"].as_array().or(group["partitions"].as_array());
    let group_lags: BTreeMap<i64, &Value> = offsets
        .context("the group has no offsets")?
        .iter()
        .filter_map(|row| Some((row["partition"].as_i64()?, &row["lag"])))
        .collect();
    println!("\nthe brokers, as the cluster shows them now");
    let mut rows = Vec::new();
    for row in commands.rows(&["cluster", "brokers"])? {
        let columns = ["broker", "state", "rack", "replicas", "leaders", "lagging"];
        rows.push(columns.map(|column| cell(&row[column])).to_vec());
    }
    table::print(
        &["broker", "state", "rack", "replicas", "leaders", "not in sync"],
        &rows,
    );

    println!("\nthe partitions of {TOPIC}");
    let mut rows = Vec::new();
    for row in partitions(&commands)? {
        let index = row["partition"].as_i64().context("a partition without index")?;
        let mut cells = [
            "partition",
            "leader",
            "epoch",
            "replicas",
            "in_sync",
            "end_offset",
        ]
        .map(|name| cell(&row[name]))
        .to_vec();
        let followers = lags.range((index, 0)..=(index, i64::MAX));
        let followers = followers.map(|((_, broker), lag)| format!("{broker}: {lag}"));
        cells.push(followers.collect::<Vec<_>>().join(", "));
        cells.push(group_lags.get(&index).map_or("-".to_owned(), |lag| cell(lag)));
        rows.push(cells);
    }
    table::print(
        &[
            "partition",
            "leader",
            "epoch",
            "replicas",
            "in sync",
            "records",
            "lag of followers",
            &format!("lag of group {GROUP}"),
        ],
        &rows,
    );
    Ok(())
}

fn partitions(commands: &Commands) -> anyhow::Result<Vec<Value>> {
    let described = commands.json(&["topic", "describe", TOPIC])?;
    let rows = described["partitions"].as_array();
    Ok(rows.context("a topic without partitions")?.clone())
}

fn led_by(partitions: &[Value], broker: u16) -> usize {
    let led = partitions
        .iter()
        .filter(|row| row["leader"].as_u64() == Some(u64::from(broker)));
    led.count()
}

/// Records of all partitions.
fn ends(partitions: &[Value]) -> u64 {
    partitions
        .iter()
        .filter_map(|row| row["end_offset"].as_u64())
        .sum()
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Looks again and again until there is what is waited for. A look that fails while brokers come and go is repeated.
fn wait<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + WAIT;
    loop {
        let seen = look();
        if let Ok(Some(found)) = seen {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let waited = format!("waited {} s for {what}", WAIT.as_secs());
            return match seen {
                Err(error) => Err(error.context(waited)),
                Ok(_) => bail!("{waited}"),
            };
        }
        sleep(POLL);
    }
}

/// Copies of each partition.
const COPIES: usize = 3;
/// How long everything goes on before the kill,
const BEFORE_KILL: Duration = Duration::from_secs(4);
/// while the broker is away and others lead,
const AWAY: Duration = Duration::from_secs(3);
/// and when it is back.
const AFTER_RETURN: Duration = Duration::from_secs(3);
/// How long the cluster may take to come to where it should be.
const WAIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);
