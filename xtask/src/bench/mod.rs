//! `cargo xtask bench`: this broker beside Apache Kafka on the same machine, in one run.
//!
//! Both are loaded in turn, several times each, by a generator that sends requests encoded beforehand, so that the
//! client is not what is measured. The servers' CPU time and memory are read from `/proc`. Kafka runs with its
//! defaults (it does not wait for the disk), this broker with its own (it does). A transform runs inside of our broker;
//! beside Kafka it is a program of Kafka Streams, whose CPU time is added to that of the broker.

mod baseline;
mod cluster;
mod codec;
mod fetch;
mod idle_transforms;
mod java;
mod librdkafka;
mod load;
mod rebalance;
mod report;
mod scenarios;
mod server;
mod setup;
mod transactions;
mod transform;
mod view;
mod wasm;
mod wire;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use report::Report;
use scenarios::{SCENARIOS, Scenario};
use server::{Kind, Server};

/// What to measure, and for how long.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Shorter loads and one round instead of three: for a look, not for the record.
    #[arg(long)]
    quick: bool,
    /// Only the scenarios whose name contains this; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Rounds for each server.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load that are measured for each figure.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Measure one server alone.
    #[arg(long, value_enum)]
    server: Option<Kind>,
    /// Our binary; built first if this is not given.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Folder for data directories; it should lie on a disk, not in memory.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/data")]
    data: PathBuf,
    /// Brokers of each kind: 1, or a cluster of 3.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    brokers: u8,
    /// Print the names of the scenarios and end.
    #[arg(long)]
    list: bool,
}

impl BenchArgs {
    fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|pattern| scenario.contains(pattern.as_str()))
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    fn seconds(&self) -> u64 {
        if self.quick {
            self.seconds.min(2)
        } else {
            self.seconds
        }
    }

    fn servers(&self) -> Vec<Kind> {
        match self.server {
            Some(one) => vec![one],
            None => vec![Kind::Kafka, Kind::Millstream],
        }
    }
}

/// Runs the scenarios, prints a table of medians with their spread, and writes `target/bench/results.json`.
///
/// # Errors
/// A server cannot be built or started, or refuses a request; no scenario has the name asked for.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.brokers {
        1 => {}
        3 => return cluster::run(&args),
        other => bail!("a cluster of {other} is not measured: a quorum of two fails with either of them"),
    }
    if args.list {
        SCENARIOS
            .iter()
            .for_each(|scenario| println!("{:24} {}", scenario.name, scenario.what));
        println!("{CODEC:24} checking batches, in this process");
        println!("{WASM:24} the boundary to plugins, beside the same work done natively");
        return Ok(());
    }
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| args.wants(scenario.name))
        .collect();
    if chosen.is_empty() && !args.wants(CODEC) && !args.wants(WASM) {
        bail!("no scenario is called like that; --list shows their names");
    }
    let mut report = Report::default();
    if args.wants(CODEC) {
        codec::measure(&args, &mut report)?;
    }
    if args.wants(WASM) {
        wasm::measure(&args, &mut report)?;
    }
    if !chosen.is_empty() {
        load_servers(&args, &chosen, &mut report)?;
    }
    if args.wants("fetch-plain") {
        baseline::measure(&args, &mut report)?;
    }
    println!("{report}");
    report.write_json("target/bench/results.json".as_ref())
}

/// Each round starts each server afresh; the rounds alternate, so that a slow minute of the machine hits both.
fn load_servers(args: &BenchArgs, scenarios: &[&Scenario], report: &mut Report) -> anyhow::Result<()> {
    let binaries = server::Binaries::prepare(args)?;
    for round in 0..args.rounds() {
        for kind in args.servers() {
            eprintln!("round {} of {}: {kind}", round + 1, args.rounds());
            let mut server = Server::start(kind, &binaries, &args.data)?;
            report.add("ready on an empty directory", kind, "ms", server.ready_ms());
            for scenario in scenarios {
                if let Err(error) = (scenario.run)(&mut server, args, report) {
                    eprintln!("  {}: {error:#}", scenario.name);
                    report.fail(scenario.name, kind, &error);
                }
            }
            server.stop().context("stopping a server")?;
        }
    }
    Ok(())
}

const CODEC: &str = "codec";
const WASM: &str = "wasm";
