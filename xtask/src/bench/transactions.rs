//! Transactions of librdkafka: how many are committed in a second, and what one of them costs the broker.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::report::Report;
use super::scenarios::warm_up;
use super::server::Server;
use super::{BenchArgs, librdkafka, setup};
use crate::shell;

/// What is committed.
struct Shape {
    name: &'static str,
    records: usize,
    record_bytes: usize,
    producers: usize,
}

/// Small ones, where it is the commit that counts, and large ones, where it is the records.
pub fn run(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    for shape in &SHAPES {
        setup::topic(server, shape.name, PARTITIONS)?;
        commit(server, shape, warm_up(server.kind, args))?;
        let before = server.cpu_ms()?;
        let told = commit(server, shape, Duration::from_secs(args.seconds()))?;
        let cpu = server.cpu_ms()? - before;
        let number = |name: &str| {
            told[name]
                .as_f64()
                .with_context(|| format!("the load tells no {name}"))
        };
        let commits = number("commits")?;
        for (figure, unit, value) in [
            ("commits", "1/s", commits / number("seconds")?),
            ("broker CPU", "ms/commit", cpu / commits),
            ("p50 of a transaction", "ms", number("p50_ms")?),
            ("p99 of a transaction", "ms", number("p99_ms")?),
        ] {
            report.add(&format!("{}: {figure}", shape.name), server.kind, unit, value);
        }
        server.client()?.delete_topic(shape.name)?;
    }
    Ok(())
}

fn commit(server: &Server, shape: &Shape, duration: Duration) -> anyhow::Result<Value> {
    let mut load = Command::new(librdkafka::build()?);
    load.args(["transactions", &server.address, shape.name]);
    load.args(
        [PARTITIONS, shape.records, shape.record_bytes, shape.producers].map(|number| number.to_string()),
    );
    let told = shell::read(load.arg(duration.as_secs().to_string()))?;
    serde_json::from_str(&told).context("the load prints JSON")
}

const PARTITIONS: usize = 3;
const SHAPES: [Shape; 3] = [
    Shape {
        name: "transactions-small",
        records: 10,
        record_bytes: 100,
        producers: 1,
    },
    Shape {
        name: "transactions-small-8-producers",
        records: 10,
        record_bytes: 100,
        producers: 8,
    },
    Shape {
        name: "transactions-large",
        records: 1000,
        record_bytes: 1024,
        producers: 1,
    },
];
