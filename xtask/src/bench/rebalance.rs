//! How long it takes until members of a group that join at once have their shares: Java's consumer with its defaults.

use anyhow::Context;

use super::report::Report;
use super::server::Server;
use super::{BenchArgs, java, setup};
use crate::shell;

/// The protocol of KIP-848, and the classic one.
pub fn run(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    setup::topic(server, TOPIC, PARTITIONS)?;
    for (protocol, shown) in [("consumer", "KIP-848"), ("classic", "classic")] {
        // The first time, Java compiles.
        let rounds = 1 + args.rounds();
        let mut joins = java::program(
            "Rebalance",
            &[
                &server.address,
                TOPIC,
                &PARTITIONS.to_string(),
                protocol,
                &MEMBERS.to_string(),
                &rounds.to_string(),
            ],
        )?;
        let before = server.cpu_ms()?;
        let told = shell::read(&mut joins)?;
        let cpu = server.cpu_ms()? - before;
        for line in told.lines().skip(1) {
            let took: f64 = line.parse().context("a line is a time")?;
            let name = format!("rebalance: {PARTITIONS} partitions to {MEMBERS} members, {shown}");
            report.add(&name, server.kind, "ms", took);
        }
        let name = format!("rebalance: broker CPU, {shown}, each time with leaving");
        report.add(&name, server.kind, "ms", cpu / rounds as f64);
    }
    server.client()?.delete_topic(TOPIC)
}

const TOPIC: &str = "rebalance";
const PARTITIONS: usize = 900;
const MEMBERS: usize = 10;
