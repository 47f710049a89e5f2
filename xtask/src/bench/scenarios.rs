//! What is measured, one entry each.

use std::time::{Duration, Instant};

use anyhow::Context;
use millstream_kafka::records::Compression;

use super::fetch::Fetches;
use super::load::{self, Load};
use super::report::Report;
use super::server::{Kind, Server};
use super::{BenchArgs, idle_transforms, librdkafka, rebalance, setup, transactions, transform, view};

/// A scenario: loads the server and adds figures to the report.
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&mut Server, &BenchArgs, &mut Report) -> anyhow::Result<()>,
}

macro_rules! produce {
    ($name:literal, $bytes:literal, $partitions:literal, $codec:ident) => {
        Scenario {
            name: $name,
            what: "acks=all, own generator; then the time of answers at half of Kafka's rate",
            run: |server, args, report| {
                produce(
                    server,
                    args,
                    report,
                    $name,
                    $bytes,
                    $partitions,
                    Compression::$codec,
                )
            },
        }
    };
}

/// All scenarios, in the order in which they are run on a fresh server.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "idle",
        what: "memory after the start",
        run: idle,
    },
    Scenario {
        name: "partitions-1000-memory",
        what: "memory with 1,000 partitions, and a restart",
        run: partitions,
    },
    produce!("produce-1k-1p-none", 1024, 1, None),
    produce!("produce-1k-16p-none", 1024, 16, None),
    produce!("produce-1k-1p-lz4", 1024, 1, Lz4),
    produce!("produce-1k-16p-lz4", 1024, 16, Lz4),
    produce!("produce-100b-1p-none", 100, 1, None),
    produce!("produce-100b-16p-none", 100, 16, None),
    produce!("produce-100b-1p-lz4", 100, 1, Lz4),
    produce!("produce-100b-16p-lz4", 100, 16, Lz4),
    Scenario {
        name: "produce-1000p-alone",
        what: "1,000 partitions in turn, one 1 KiB record in a batch, one batch in a request",
        run: |server, args, report| many_partitions(server, args, report, "produce-1000p-alone", 1),
    },
    Scenario {
        name: "produce-1000p-together",
        what: "the same, 50 partitions in a request",
        run: |server, args, report| many_partitions(server, args, report, "produce-1000p-together", 50),
    },
    Scenario {
        name: "fetch-plain",
        what: "a plain topic from the page cache",
        run: fetch,
    },
    Scenario {
        name: "librdkafka-produce",
        what: "librdkafka as it comes, 1 KiB and 100 B",
        run: librdkafka::produce,
    },
    Scenario {
        name: "librdkafka-consume",
        what: "librdkafka as it comes, 1 KiB",
        run: librdkafka::consume,
    },
    Scenario {
        name: "view-read",
        what: "a filter on a JSON field, first read and from the cache",
        run: view::read,
    },
    Scenario {
        name: "transform",
        what: "filter and map of 200 B JSON, exactly once, beside Kafka Streams; then its delay at 5,000 records/s",
        run: transform::run,
    },
    Scenario {
        name: "neighbour",
        what: "producers at 5 MB/s, alone and while a transform works as fast as it can on the same broker",
        run: transform::neighbour::run,
    },
    Scenario {
        name: "transactions",
        what: "librdkafka commits: 10 records of 100 B, from one producer and from eight, and 1,000 of 1 KiB",
        run: transactions::run,
    },
    Scenario {
        name: "rebalance",
        what: "10 members join a group with 900 partitions at once, Java's consumer, KIP-848 and classic",
        run: rebalance::run,
    },
    Scenario {
        name: "idle-transforms",
        what: "100 transforms with 6 partitions each while nothing comes in: CPU and memory",
        run: idle_transforms::run,
    },
    Scenario {
        name: "recovery",
        what: "10 GB (quick: 1), kill -9, start",
        run: recovery,
    },
];

fn idle(server: &mut Server, _: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    // Long enough for what starts in the background to have started.
    std::thread::sleep(Duration::from_secs(2));
    report.add("idle", server.kind, "MiB", server.resident_mib()?);
    Ok(())
}

fn partitions(server: &mut Server, _: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let kind = server.kind;
    let start = Instant::now();
    setup::topic(server, "thousand", 1000)?;
    report.add(
        "partitions-1000: created",
        kind,
        "ms",
        start.elapsed().as_secs_f64() * 1e3,
    );
    report.add("partitions-1000: memory", kind, "MiB", server.resident_mib()?);
    let start = Instant::now();
    server.restart()?;
    let mut client = server.client()?;
    while client.led_partitions("thousand")? < 1000 {
        std::thread::sleep(Duration::from_millis(2));
    }
    report.add(
        "partitions-1000: stop and ready again",
        kind,
        "ms",
        start.elapsed().as_secs_f64() * 1e3,
    );
    report.add("partitions-1000: ready again", kind, "ms", server.ready_ms());
    client.delete_topic("thousand")
}

fn produce(
    server: &mut Server,
    args: &BenchArgs,
    report: &mut Report,
    name: &'static str,
    record_bytes: usize,
    partitions: usize,
    codec: Compression,
) -> anyhow::Result<()> {
    setup::topic(server, name, partitions)?;
    let load = setup::load(server, name, partitions, record_bytes, codec)?;
    flat_out(server, args, report, name, &load)?;

    let own = format!("{name}: throughput");
    let peak = report
        .kafka_median(&own, "MB/s")
        .context("half of Kafka's rate: measure Kafka first")?;
    let paced = load.run_paced(peak / 2.0, Duration::from_secs(args.seconds()))?;
    report.add(
        &format!("{name}: p50 at half of Kafka's rate"),
        server.kind,
        "ms",
        paced.percentile_ms(0.5),
    );
    report.add(
        &format!("{name}: p99 at half of Kafka's rate"),
        server.kind,
        "ms",
        paced.percentile_ms(0.99),
    );
    server.client()?.delete_topic(name)
}

fn flat_out(
    server: &Server,
    args: &BenchArgs,
    report: &mut Report,
    name: &str,
    load: &Load,
) -> anyhow::Result<()> {
    load.run_flat_out(warm_up(server.kind, args))?;
    let before = server.cpu_ms()?;
    let outcome = load.run_flat_out(Duration::from_secs(args.seconds()))?;
    let cpu = server.cpu_ms()? - before;
    report.add(
        &format!("{name}: throughput"),
        server.kind,
        "MB/s",
        outcome.megabytes_per_second(),
    );
    report.add(
        &format!("{name}: records"),
        server.kind,
        "k/s",
        outcome.records_per_second() / 1e3,
    );
    report.add(
        &format!("{name}: server CPU"),
        server.kind,
        "ms/MB",
        cpu / outcome.megabytes(),
    );
    Ok(())
}

fn many_partitions(
    server: &mut Server,
    args: &BenchArgs,
    report: &mut Report,
    name: &'static str,
    batches_per_request: usize,
) -> anyhow::Result<()> {
    setup::topic(server, name, 1000)?;
    let load = Load {
        batches_per_request,
        batch: load::batch(1, 1024, Compression::None)?,
        records_per_batch: 1,
        ..setup::load(server, name, 1000, 1024, Compression::None)?
    };
    // The first records of so many partitions take Kafka seconds: that is not what is measured.
    if !args.quick && server.kind == Kind::Kafka {
        load.run_flat_out(Duration::from_secs(10))?;
    }
    flat_out(server, args, report, name, &load)?;
    server.client()?.delete_topic(name)
}

fn fetch(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let name = "fetch-plain";
    setup::fill(
        server,
        name,
        setup::FETCH_PARTITIONS,
        if args.quick { 256 << 20 } else { 1 << 30 },
    )?;
    let fetches = Fetches {
        address: server.address.clone(),
        topic: name.to_owned(),
        partitions: setup::FETCH_PARTITIONS,
        partition_bytes_max: 1 << 20,
    };
    fetches.run(warm_up(server.kind, args))?;
    let before = server.cpu_ms()?;
    let outcome = fetches.run(Duration::from_secs(args.seconds()))?;
    let cpu = server.cpu_ms()? - before;
    report.add(
        "fetch-plain: throughput",
        server.kind,
        "MB/s",
        outcome.megabytes_per_second(),
    );
    report.add(
        "fetch-plain: server CPU",
        server.kind,
        "ms/MB",
        cpu / outcome.megabytes(),
    );
    server.client()?.delete_topic(name)
}

fn recovery(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    setup::fill(server, "recovery", 4, if args.quick { 1 << 30 } else { 10 << 30 })?;
    server.crash()?;
    let kind = server.kind;
    report.add("recovery: ready after kill -9", kind, "ms", server.ready_ms());
    report.add("recovery: read meanwhile", kind, "MB", server.read_bytes()? / 1e6);
    let fetches = Fetches {
        address: server.address.clone(),
        topic: "recovery".to_owned(),
        partitions: 4,
        partition_bytes_max: 1 << 20,
    };
    let found = fetches.run_once()?;
    report.add("recovery: found again", kind, "MB", found.megabytes());
    server.client()?.delete_topic("recovery")
}

/// Seconds of load that are not counted: Java compiles while it runs.
pub fn warm_up(kind: Kind, args: &BenchArgs) -> Duration {
    let seconds = if kind == Kind::Kafka { 4 } else { 1 };
    Duration::from_secs(if args.quick { seconds.min(2) } else { seconds })
}
