//! What deployed transforms cost while nothing comes in.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::report::Report;
use super::server::{Kind, Server};
use super::transform::flights::Flights;
use super::transform::{self, PARTITIONS};
use super::{BenchArgs, setup, wire};

/// A broker with topics, and the same one with a transform on each of them. Each has run its plugin on every partition once
/// before: what is not started yet costs nothing.
pub fn run(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    if server.kind == Kind::Kafka {
        return Ok(());
    }
    let (kind, count) = (server.kind, if args.quick { 10 } else { TRANSFORMS });
    let duration = Duration::from_secs(6 * args.seconds());
    transform::push_plugin(server)?;
    for index in 0..count {
        setup::topic(server, &source(index), PARTITIONS)?;
        setup::topic(server, &sink(index), PARTITIONS)?;
        feed(server, &source(index))?;
    }
    // Memory that was used for something else before would hide what is used now.
    server.restart()?;
    let (cpu_without, memory_without) = (idle_share(server, duration)?, server.resident_mib()?);
    let start = Instant::now();
    for index in 0..count {
        transform::deploy(server, &name(index), &source(index), &sink(index))?;
    }
    report.add(
        "idle-transforms: deploying one",
        kind,
        "ms",
        each_ms(start, count),
    );
    wait_until_done(server, count)?;
    let (cpu, memory) = (idle_share(server, duration)?, server.resident_mib()?);
    report.add("idle-transforms: transforms", kind, "", count as f64);
    report.add("idle-transforms: CPU without", kind, "% of a core", cpu_without);
    report.add("idle-transforms: CPU", kind, "% of a core", cpu);
    report.add("idle-transforms: memory without", kind, "MiB", memory_without);
    let each = (memory - memory_without) / count as f64;
    report.add("idle-transforms: memory", kind, "MiB each", each);
    for index in 0..count {
        server.admin(&["transform", "delete", &name(index), "--yes"])?;
        server.client()?.delete_topic(&source(index))?;
        server.client()?.delete_topic(&sink(index))?;
    }
    Ok(())
}

/// A few records for each partition.
fn feed(server: &Server, topic: &str) -> anyhow::Result<()> {
    let mut flights = Flights::new(1);
    let batches = (0..PARTITIONS)
        .map(|partition| flights.batch(partition, FED, wire::now_ms()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let parts: Vec<(usize, &[u8])> = batches
        .iter()
        .enumerate()
        .map(|(partition, batch)| (partition, &*batch.bytes))
        .collect();
    let (mut stream, mut answer) = (wire::connect(&server.address)?, Vec::new());
    stream.write_all(&wire::produce_each(topic, &parts))?;
    wire::read_frame(&mut stream, &mut answer)?;
    wire::check_produced(&answer)
}

/// Waits until everything that was fed is committed.
fn wait_until_done(server: &Server, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut client = server.client()?;
    for index in 0..count {
        let group = transform::group(&name(index));
        while client
            .committed(&group, &source(index), PARTITIONS)?
            .iter()
            .any(|offset| *offset < FED as i64)
        {
            ensure!(
                Instant::now() < deadline,
                "{} does not come to its end",
                name(index)
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Processor time over so long, in percent of a core.
fn idle_share(server: &Server, duration: Duration) -> anyhow::Result<f64> {
    // What has just happened is over.
    thread::sleep(Duration::from_secs(2));
    let before = server.cpu_ms()?;
    thread::sleep(duration);
    Ok((server.cpu_ms()? - before) / 10.0 / duration.as_secs_f64())
}

fn each_ms(start: Instant, count: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e3 / count as f64
}

fn name(index: usize) -> String {
    format!("idle-{index}")
}

fn source(index: usize) -> String {
    format!("idle-source-{index}")
}

fn sink(index: usize) -> String {
    format!("idle-sink-{index}")
}

const TRANSFORMS: usize = 100;
/// Records of each partition.
const FED: usize = 10;
