//! `cargo xtask demo`: the flights example, with the release binary and the shipped plugins.
//!
//! Everything is done with the commands that a user would type, and every number that is printed is read from the
//! broker or from records that came out of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::{plugins, shell};

/// How to show it.
#[derive(Debug, Default, Args)]
pub struct DemoArgs {
    /// Leaves the broker up until Ctrl-C, with everything in it
    #[arg(long)]
    stay: bool,
}

/// Runs the example.
///
/// # Errors
/// A build or a command fails, or what comes out is not what went in.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    println!("building the release binary and the plugins (a few minutes the first time)");
    let components = plugins::build()?;
    let binary = shell::target_dir().join("release/millstream");
    let mut broker = Broker::start(&binary)?;
    println!(
        "\nbroker ready in {} ms: Kafka on {}, HTTP on http://{}\n",
        broker.ready_ms, broker.kafka, broker.http
    );
    show(&broker, &components)?;
    println!(
        "\nTwo commands to try next{}:",
        if args.stay {
            ""
        } else {
            " (start with `cargo xtask demo --stay` to keep the broker)"
        }
    );
    let at = format!("--bootstrap {}", broker.kafka);
    let binary = binary
        .strip_prefix(shell::root())
        .unwrap_or(&binary)
        .display()
        .to_string();
    println!("  {binary} consume flights.delayed {at} --from earliest --max 10 --format json");
    println!("  kcat -b {} -C -t flights.delayed -e -q | head", broker.kafka);
    if args.stay {
        println!("\nThe broker stays up; Ctrl-C ends it.");
        broker.stay()?;
    }
    broker.stop()
}

/// The steps of the example, in the order of a record's way.
fn show(broker: &Broker, components: &[PathBuf]) -> anyhow::Result<()> {
    let mut table = Table::default();
    for component in components {
        let pushed = broker.json(&["plugin", "push", &component.display().to_string()])?;
        let text = |name: &str| pushed[name].as_str().unwrap_or_default().to_owned();
        let size = pushed["size"].as_u64().unwrap_or_default() / 1024;
        table.row(
            &format!("push plugin {}", text("name")),
            "",
            &format!("{} {}, {size} KiB", text("world"), text("version")),
        );
    }
    broker.json(&["topic", "create", TOPIC, "--partitions", "6"])?;
    broker.json(&[
        "topic",
        "alter",
        TOPIC,
        "--config",
        "millstream.partitioner=by-field",
        "--config",
        PARTITIONER_CONFIG,
    ])?;
    broker.json(&[
        "topic",
        "alter",
        TOPIC,
        "--ingest",
        "validate-json",
        "--ingest-config",
        INGEST_CONFIG,
    ])?;
    broker.json(&[
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

    let start = Instant::now();
    let flights = broker.json(&[
        "produce",
        TOPIC,
        "examples/flights/flights.jsonl",
        "examples/flights/malformed.jsonl",
        "--quiet",
    ])?;
    let sent = flights["records"]
        .as_u64()
        .context("produce says no number of records")?;
    let took = start.elapsed().as_millis();
    let stored = broker.stored(TOPIC)?;
    table.row(
        "produce flights",
        &format!("{sent} lines"),
        &format!("acknowledged in {took} ms"),
    );
    table.row(
        "ingest filter validate-json",
        &format!("{sent} records"),
        &format!("{stored} stored, {} dropped", sent.saturating_sub(stored)),
    );

    let records = broker.consume(TOPIC, &[])?;
    ensure!(
        records.len() as u64 == stored,
        "{} records read of {stored} stored",
        records.len()
    );
    let carriers = partitions_by_carrier(&records)?;
    let partitions: std::collections::BTreeSet<_> = carriers.values().collect();
    let text = format!(
        "{} carriers on {} partitions, none on two",
        carriers.len(),
        partitions.len()
    );
    table.row("partitioner by-field", &format!("{stored} records"), &text);

    let delayed = broker.consume(VIEW, &["--group", GROUP])?;
    let masked = check_view(&records, &delayed)?;
    table.row(
        "view filter-json",
        &format!("{stored} records"),
        &format!("{} more than 30 minutes late", delayed.len()),
    );
    table.row(
        "view mask",
        &format!("{} records", delayed.len()),
        &format!("{masked} tail numbers masked"),
    );

    let group = broker.json(&["group", "describe", GROUP])?;
    let rows = group["offsets"]
        .as_array()
        .or(group["partitions"].as_array())
        .context("the group has no offsets")?;
    let lag: i64 = rows.iter().filter_map(|row| row["lag"].as_i64()).sum();
    table.row(
        &format!("consumer group {GROUP}"),
        &format!("{} records", delayed.len()),
        &format!("lag {lag}"),
    );
    if let Some(first) = delayed.first() {
        println!("\nthe first record of the view:\n  {}", first["value"]);
    }
    Ok(())
}

/// Which partition each carrier's flights are in; one carrier in two would be the partitioner's fault.
fn partitions_by_carrier(records: &[Value]) -> anyhow::Result<BTreeMap<String, i64>> {
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
fn check_view(source: &[Value], view: &[Value]) -> anyhow::Result<usize> {
    let mut expected = BTreeMap::new();
    for record in source {
        let flight = flight(record)?;
        if flight["dep_delay"].as_i64().is_some_and(|delay| delay > 30) {
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

/// The flight in a record: its value stands in the output as the JSON that it is.
fn flight(record: &Value) -> anyhow::Result<&Value> {
    let flight = &record["value"];
    ensure!(
        flight.is_object(),
        "a record that is no JSON object was stored: {flight}"
    );
    Ok(flight)
}

fn place(record: &Value) -> (Option<i64>, Option<i64>) {
    (record["partition"].as_i64(), record["offset"].as_i64())
}

/// A broker of our own, on free ports and an empty directory.
struct Broker {
    binary: PathBuf,
    child: Child,
    data: PathBuf,
    kafka: String,
    http: String,
    ready_ms: u128,
}

impl Broker {
    fn start(binary: &Path) -> anyhow::Result<Self> {
        let data = shell::target_dir().join(format!("demo-data-{}", std::process::id()));
        let start = Instant::now();
        let mut child = Command::new(binary)
            .args([
                "broker",
                "--kafka",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--ready-json",
                "--data-dir",
            ])
            .arg(&data)
            .env("MILLSTREAM_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut line = String::new();
        let output = child
            .stdout
            .take()
            .expect("standard output is a pipe: it was asked for above");
        BufReader::new(output).read_line(&mut line)?;
        let ready_ms = start.elapsed().as_millis();
        let ready: Value = serde_json::from_str(&line)
            .with_context(|| format!("the broker is not ready: '{}'", line.trim()))?;
        let address = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            binary: binary.to_owned(),
            data,
            kafka: address("kafka"),
            http: address("http"),
            ready_ms,
            child,
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).args([
            "--bootstrap",
            &self.kafka,
            "--admin",
            &format!("http://{}", self.http),
            "--output",
            "json",
        ]);
        command
    }

    fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let text = shell::read(&mut self.command(args))?;
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{} printed no JSON", args[0]))?;
        // Lists of one are how tables of one row come out.
        Ok(match value {
            Value::Array(mut rows) if rows.len() == 1 => rows.remove(0),
            other => other,
        })
    }

    /// Records in a topic, from its offsets.
    fn stored(&self, topic: &str) -> anyhow::Result<u64> {
        let text = shell::read(&mut self.command(&["topic", "offsets", topic]))?;
        let rows: Vec<Value> = serde_json::from_str(&text)?;
        let count = |row: &Value| Some(row["end_offset"].as_u64()? - row["start_offset"].as_u64()?);
        rows.iter()
            .map(count)
            .sum::<Option<u64>>()
            .context("a partition without offsets")
    }

    fn consume(&self, topic: &str, more: &[&str]) -> anyhow::Result<Vec<Value>> {
        let args = [
            &[
                "consume",
                topic,
                "--from",
                "earliest",
                "--exit-at-end",
                "--format",
                "json",
            ],
            more,
        ]
        .concat();
        let text = shell::read(&mut self.command(&args))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Waits until someone asks for the end. From a terminal the broker is asked as well; we outlive it, to remove its
    /// data.
    fn stay(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            while self.child.try_wait()?.is_none() {
                tokio::select! {
                    _ = interrupt.recv() => break,
                    _ = terminate.recv() => break,
                    () = tokio::time::sleep(STAY_POLL) => {}
                }
            }
            Ok(())
        })
    }

    /// Asks the broker to end, as an init system would, and removes its data.
    fn stop(mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            shell::read(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        }
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the broker ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After a failed step the broker still runs; after `stop` both calls have nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Lines of a table, each printed as soon as its step is done.
#[derive(Default)]
struct Table {
    rows: usize,
}

impl Table {
    fn row(&mut self, step: &str, went_in: &str, came_out: &str) {
        if self.rows == 0 {
            println!("{:30} {:16} out", "step", "in");
        }
        self.rows += 1;
        println!("{step:30} {went_in:16} {came_out}");
    }
}

/// Pause between two looks at whether the broker still runs.
const STAY_POLL: Duration = Duration::from_millis(200);
const TOPIC: &str = "flights";
const VIEW: &str = "flights.delayed";
const GROUP: &str = "demo";
const PARTITIONER_CONFIG: &str = r#"millstream.partitioner.config={"pointer":"/carrier"}"#;
const INGEST_CONFIG: &str = r#"{"invalid":"drop","required":{"/year":"integer","/month":"integer","/day":"integer",
    "/carrier":"string","/flight":"integer","/origin":"string","/dest":"string","/distance":"integer",
    "/time_hour":"string","/dep_delay":["integer","null"]}}"#;
