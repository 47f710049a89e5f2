//! What three brokers store in a second, what that costs them, and what they cost while nothing happens.

use std::time::{Duration, Instant};

use anyhow::Context;
use millstream_kafka::records::Compression;
use rustix::process::Signal;

use super::super::load::{self, Load, Outcome};
use super::super::report::Report;
use super::super::{BenchArgs, scenarios};
use super::servers::Servers;

/// Twelve partitions with three replicas each, each leader loaded by connections of its own.
pub fn produce(
    servers: &mut Servers,
    args: &BenchArgs,
    report: &mut Report,
    name: &'static str,
    record_bytes: usize,
    batch_bytes: usize,
) -> anyhow::Result<()> {
    let kind = servers.kind;
    servers.topic(name, PARTITIONS)?;
    let loads = loads(servers, name, record_bytes, batch_bytes)?;
    // Three virtual machines compile on the same cores that they serve with.
    let warm_up = scenarios::warm_up(kind, args) * servers.nodes.len() as u32;
    together(&loads, |load| load.run_flat_out(warm_up))?;
    let before = servers.cpu_ms()?;
    let duration = Duration::from_secs(args.seconds());
    let outcome = together(&loads, |load| load.run_flat_out(duration))?;
    let cpu = servers.cpu_ms()? - before;
    let throughput = format!("{name}: throughput");
    report.add(&throughput, kind, "MB/s", outcome.megabytes_per_second());
    report.add(
        &format!("{name}: CPU of all brokers"),
        kind,
        "ms/MB",
        cpu / outcome.megabytes(),
    );
    let peak = report
        .kafka_median(&throughput, "MB/s")
        .context("half of Kafka's rate: measure Kafka first")?;
    let share = peak / 2.0 / loads.len() as f64;
    let paced = together(&loads, |load| load.run_paced(share, duration))?;
    for (percentile, of) in [("p50", 0.5), ("p99", 0.99)] {
        let figure = format!("{name}: {percentile} at half of Kafka's rate");
        report.add(&figure, kind, "ms", paced.percentile_ms(of));
    }
    servers.wait_in_sync(name, PARTITIONS, Duration::from_secs(60))?;
    servers.client()?.delete_topic(name)
}

/// A load for each leader, on the partitions that it leads.
pub fn loads(
    servers: &Servers,
    topic: &str,
    record_bytes: usize,
    batch_bytes: usize,
) -> anyhow::Result<Vec<Load>> {
    let led = servers.client()?.partitions_of(topic)?;
    let records = batch_bytes / record_bytes;
    let batch = load::batch(records, record_bytes, Compression::None)?;
    let of_node = |at: usize| -> Vec<usize> {
        let of_leader = led.iter().enumerate().filter(|(_, p)| p.leader == at as i32 + 1);
        of_leader.map(|(partition, _)| partition).collect()
    };
    let loads = servers.nodes.iter().enumerate().map(|(at, node)| Load {
        address: node.address.clone(),
        topic: topic.to_owned(),
        batches_per_request: of_node(at).len().max(1),
        partitions: of_node(at),
        batch: batch.clone(),
        records_per_batch: records,
        connections: CONNECTIONS_PER_BROKER,
    });
    Ok(loads.filter(|load| !load.partitions.is_empty()).collect())
}

/// Runs loads at the same time.
pub fn together(
    loads: &[Load],
    run: impl Fn(&Load) -> anyhow::Result<Outcome> + Sync,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = loads.iter().map(|load| scope.spawn(|| run(load))).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("a load thread panicked"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    Ok(Outcome::join(parts, start.elapsed().as_secs_f64()))
}

/// A thousand partitions on three brokers: what they cost, and how long until all have leaders after a kill.
pub fn thousand(servers: &mut Servers, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let (kind, name) = (servers.kind, "thousand-replicated");
    servers.topic(name, THOUSAND)?;
    std::thread::sleep(Duration::from_secs(3));
    let seconds = args.seconds().max(5);
    let before = servers.cpu_ms()?;
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu = (servers.cpu_ms()? - before) / servers.nodes.len() as f64;
    let share = cpu / 10.0 / seconds as f64;
    report.add(
        &format!("{name}: idle CPU of a broker"),
        kind,
        "% of a core",
        share,
    );
    for node in &servers.nodes {
        report.add(
            &format!("{name}: memory of a broker"),
            kind,
            "MiB",
            node.resident_mib()?,
        );
    }
    let victim = servers.leader(name, 0)?;
    let start = Instant::now();
    servers.nodes[victim].end(Signal::KILL)?;
    let gone = victim as i32 + 1;
    loop {
        let led = servers.client().and_then(|mut client| client.partitions_of(name));
        if led.is_ok_and(|led| led.iter().all(|p| p.leader >= 0 && p.leader != gone)) {
            break;
        }
        anyhow::ensure!(
            start.elapsed() < Duration::from_secs(60),
            "partitions stay without a leader"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    report.add(
        &format!("{name}: all have leaders after kill -9"),
        kind,
        "ms",
        took,
    );
    servers.nodes[victim].start_again()?;
    servers.wait_in_sync(name, THOUSAND, Duration::from_secs(120))?;
    servers.client()?.delete_topic(name)
}

const PARTITIONS: usize = 12;
const THOUSAND: usize = 1000;
const CONNECTIONS_PER_BROKER: usize = 2;
/// Bytes of a batch where it only matters that there are many.
const FILL_BATCH_BYTES: usize = 64 << 10;

/// Fills a topic with `bytes` or a little more, and says with how many.
pub fn fill(servers: &Servers, topic: &str, bytes: u64) -> anyhow::Result<u64> {
    let loads = loads(servers, topic, 1024, FILL_BATCH_BYTES)?;
    let mut done = 0;
    while done < bytes {
        done += together(&loads, |load| load.run_flat_out(Duration::from_millis(500)))?.bytes;
    }
    Ok(done)
}
