//! A transform of our broker beside a program of Kafka Streams that does the same: exactly once, a commit every 100 ms.
//!
//! First it works off what is there, then its delay is taken at a steady rate. What is compared is the broker with its
//! transform, and Kafka's broker with Kafka Streams. `xtask/filter-map` is the plugin, `xtask/kafka/FilterMap.java` the program:
//! both read the whole of a JSON document, keep those of late flights, and write a new value.

pub mod flights;
pub mod neighbour;
mod paced;
mod reader;
mod running;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

pub use running::{deploy, group, push_plugin};

use super::report::Report;
use super::server::{Kind, Server};
use super::wire::Isolation;
use super::{BenchArgs, setup};
use flights::Filled;
use running::Running;

/// Works off a topic, and then keeps up with a producer.
pub fn run(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    setup::topic(server, SOURCE, PARTITIONS)?;
    setup::topic(server, SINK, PARTITIONS)?;
    if server.kind == Kind::Millstream {
        push_plugin(server)?;
    }
    let filled = flights::fill(&server.address, SOURCE, FILLED_PER_SECOND * args.seconds())?;
    let start = Instant::now();
    let mut running = Running::start(server, args, SOURCE, SINK)?;
    work_off(server, &mut running, &filled, start, report)?;
    paced::measure(server, &running, Duration::from_secs(4 * args.seconds()), report)?;
    running.stop(server)?;
    server.client()?.delete_topic(SOURCE)?;
    server.client()?.delete_topic(SINK)
}

/// How far it is, and what that has cost.
struct Sample {
    at: Instant,
    records: u64,
    cpu_ms: f64,
    broker_cpu_ms: f64,
}

/// From the start until readers of committed records see everything.
fn work_off(
    server: &mut Server,
    running: &mut Running,
    filled: &Filled,
    start: Instant,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (kind, mut client) = (server.kind, server.client()?);
    let mut sample = |running: &Running| -> anyhow::Result<Sample> {
        let offsets = client.committed(running.group(), SOURCE, PARTITIONS)?;
        Ok(Sample {
            at: Instant::now(),
            records: offsets.iter().map(|offset| (*offset).max(0) as u64).sum(),
            cpu_ms: running.cpu_ms(server)?,
            broker_cpu_ms: server.cpu_ms()?,
        })
    };
    let (mut first, mut warm) = (None, sample(running)?);
    let end = loop {
        let now = sample(running)?;
        if now.records > 0 && first.is_none() {
            first = Some(now.at - start);
        }
        let is_warm = warm.records > 0;
        if !is_warm && now.records * WARM_UP_OF >= filled.records && now.records < filled.records {
            warm = now;
        } else if now.records == filled.records && is_settled(server)? {
            break now;
        }
        running.check()?;
        ensure!(
            start.elapsed() < Duration::from_secs(300),
            "{} of {} records are done after five minutes",
            warm.records,
            filled.records
        );
        thread::sleep(POLL_INTERVAL);
    };
    let committed = reader::count(&server.address, SINK, PARTITIONS)?;
    ensure!(
        committed == filled.late,
        "{committed} records came out of it, not {}",
        filled.late
    );
    let records = (end.records - warm.records) as f64;
    let seconds = (end.at - warm.at).as_secs_f64();
    let whole = filled.records as f64 / (end.at - start).as_secs_f64();
    let cost = |spent_ms: f64| spent_ms * 1e6 / records;
    for (figure, unit, value) in [
        ("throughput", "k records/s", records / seconds / 1e3),
        ("throughput with the start", "k records/s", whole / 1e3),
        ("CPU", "ns/record", cost(end.cpu_ms - warm.cpu_ms)),
        (
            "CPU of the broker alone",
            "ns/record",
            cost(end.broker_cpu_ms - warm.broker_cpu_ms),
        ),
        (
            "from the start to the first commit",
            "ms",
            first.map_or(f64::NAN, |first| first.as_secs_f64() * 1e3),
        ),
    ] {
        report.add(&format!("transform: {figure}"), kind, unit, value);
    }
    Ok(())
}

/// Whether readers of committed records see as much as others do.
fn is_settled(server: &Server) -> anyhow::Result<bool> {
    let mut client = server.client()?;
    let committed = client.ends(SINK, PARTITIONS, Isolation::Committed)?;
    Ok(committed == client.ends(SINK, PARTITIONS, Isolation::Uncommitted)?)
}

/// Partitions of the source and of the sink.
pub const PARTITIONS: usize = 6;

const SOURCE: &str = "transform-source";
const SINK: &str = "transform-sink";
/// Records that are there at first, for each second of load that is asked for: two million with five.
const FILLED_PER_SECOND: u64 = 400_000;
/// The first part of the records is not counted, one in so many: Java compiles while it runs.
const WARM_UP_OF: u64 = 4;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
