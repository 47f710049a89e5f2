//! The example on one broker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::commands::Commands;
use super::flights::{self, FLIGHTS, GROUP, MALFORMED, TOPIC, VIEW};
use super::process::{self, Process};
use super::table::Steps;

/// Runs it.
pub fn run(binary: &Path, components: &[PathBuf], stay: bool) -> anyhow::Result<()> {
    let mut broker = Broker::start(binary)?;
    println!(
        "\nbroker ready in {} ms: Kafka on {}, HTTP on http://{}\n",
        broker.ready.as_millis(),
        broker.commands.bootstrap,
        broker.commands.http
    );
    show(&broker.commands, components)?;
    let at = &broker.commands.bootstrap;
    super::try_next(
        &[
            format!(
                "{} consume {VIEW} --bootstrap {at} --from earliest --max 10 --format json",
                super::shown(binary)
            ),
            format!("kcat -b {at} -C -t {VIEW} -e -q | head"),
        ],
        "--stay",
        stay,
    );
    if stay {
        println!("\nThe broker stays up; Ctrl-C ends it.");
        process::stay(|| broker.process.is_up())?;
    }
    broker.process.stop()
}

/// The steps of the example, in the order of a record's way.
fn show(commands: &Commands, components: &[PathBuf]) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    flights::push(commands, components, &mut steps)?;
    flights::create(commands, &[])?;

    let start = Instant::now();
    let produced = commands.json(&["produce", TOPIC, FLIGHTS, MALFORMED, "--quiet"])?;
    let sent = produced["records"]
        .as_u64()
        .context("produce says no number of records")?;
    let took = start.elapsed().as_millis();
    let stored = commands.stored(TOPIC)?;
    steps.row(
        "produce flights",
        &format!("{sent} lines"),
        &format!("acknowledged in {took} ms"),
    );
    steps.row(
        "ingest filter validate-json",
        &format!("{sent} records"),
        &format!("{stored} stored, {} dropped", sent.saturating_sub(stored)),
    );

    let records = commands.consume(TOPIC, &[])?;
    ensure!(
        records.len() as u64 == stored,
        "{} records read of {stored} stored",
        records.len()
    );
    let carriers = flights::partitions_by_carrier(&records)?;
    let partitions: BTreeSet<_> = carriers.values().collect();
    let text = format!(
        "{} carriers on {} partitions, none on two",
        carriers.len(),
        partitions.len()
    );
    steps.row("partitioner by-field", &format!("{stored} records"), &text);

    let delayed = commands.consume(VIEW, &["--group", GROUP])?;
    let masked = flights::check_view(&records, &delayed)?;
    steps.row(
        "view filter-json",
        &format!("{stored} records"),
        &format!("{} more than 30 minutes late", delayed.len()),
    );
    steps.row(
        "view mask",
        &format!("{} records", delayed.len()),
        &format!("{masked} tail numbers masked"),
    );

    let group = commands.json(&["group", "describe", GROUP])?;
    let rows = group["offsets"]
        .as_array()
        .or(group["partitions"].as_array())
        .context("the group has no offsets")?;
    let lag: i64 = rows.iter().filter_map(|row| row["lag"].as_i64()).sum();
    steps.row(
        &format!("consumer group {GROUP}"),
        &format!("{} records", delayed.len()),
        &format!("lag {lag}"),
    );
    if let Some(first) = delayed.first() {
        println!("\nthe first record of the view:\n  {}", first["value"]);
    }
    Ok(())
}

/// A broker of our own, on free ports and an empty directory.
struct Broker {
    process: Process,
    data: PathBuf,
    commands: Commands,
    ready: Duration,
}

impl Broker {
    fn start(binary: &Path) -> anyhow::Result<Self> {
        let data = super::data_dir();
        let mut process = Process::launch(
            Command::new(binary)
                .args([
                    "broker",
                    "--kafka",
                    "127.0.0.1:0",
                    "--http",
                    "127.0.0.1:0",
                    "--data-dir",
                ])
                .arg(&data),
        )?;
        let (said, ready) = process.wait_ready()?;
        let address = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            process,
            data,
            commands: Commands {
                binary: binary.to_owned(),
                bootstrap: address("kafka"),
                http: address("http"),
            },
            ready,
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After a failed step the broker still runs.
        self.process.kill();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
