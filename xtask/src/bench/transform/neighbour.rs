//! What producers feel of a transform that works as fast as it can on the broker that they write to.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use millstream_kafka::records::Compression;

use super::super::load::{self, Load};
use super::super::report::Report;
use super::super::server::{Kind, Server};
use super::super::{BenchArgs, setup};
use super::flights;
use super::running::{Running, push_plugin};
use super::{PARTITIONS, POLL_INTERVAL};

/// A steady load on a topic that no transform reads: alone, and while one works off another topic.
pub fn run(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    for topic in [SOURCE, SINK, NEIGHBOUR] {
        setup::topic(server, topic, PARTITIONS)?;
    }
    if server.kind == Kind::Millstream {
        push_plugin(server)?;
    }
    let duration = Duration::from_secs(args.seconds());
    let filled = flights::fill(&server.address, SOURCE, FILLED_PER_SECOND * args.seconds())?;
    let producers = Load {
        batch: load::batch(RECORDS, RECORD_BYTES, Compression::None)?,
        records_per_batch: RECORDS,
        ..setup::load(server, NEIGHBOUR, PARTITIONS, RECORD_BYTES, Compression::None)?
    };
    // What is warm, and what fills left to be written, is the same for both.
    producers.run_paced(MEGABYTES_PER_SECOND, WARM_UP)?;
    let alone = producers.run_paced(MEGABYTES_PER_SECOND, duration)?;
    let running = Running::start(server, args, SOURCE, SINK)?;
    let done = |server: &Server| -> anyhow::Result<u64> {
        let offsets = server.client()?.committed(running.group(), SOURCE, PARTITIONS)?;
        Ok(offsets.iter().map(|offset| (*offset).max(0) as u64).sum())
    };
    let deadline = Instant::now() + BEGIN_WAIT;
    while done(server)? == 0 {
        ensure!(Instant::now() < deadline, "nothing is done of it");
        thread::sleep(POLL_INTERVAL);
    }
    let before = done(server)?;
    let beside = producers.run_paced(MEGABYTES_PER_SECOND, duration)?;
    let after = done(server)?;
    ensure!(
        after < filled.records,
        "the transform was at its end before the load was"
    );
    for (name, outcome) in [("alone", &alone), ("beside a transform", &beside)] {
        for (figure, share) in [("p50", 0.5), ("p99", 0.99)] {
            let name = format!("neighbour: producers {name}, {figure}");
            report.add(&name, server.kind, "ms", outcome.percentile_ms(share));
        }
    }
    let rate = (after - before) as f64 / beside.seconds / 1e3;
    report.add(
        "neighbour: the transform meanwhile",
        server.kind,
        "k records/s",
        rate,
    );
    running.stop(server)?;
    for topic in [SOURCE, SINK, NEIGHBOUR] {
        server.client()?.delete_topic(topic)?;
    }
    Ok(())
}

const SOURCE: &str = "neighbour-source";
const SINK: &str = "neighbour-sink";
const NEIGHBOUR: &str = "neighbour";
/// More than a transform gets done in a second.
const FILLED_PER_SECOND: u64 = 2_400_000;
/// A fraction of what a broker takes.
const MEGABYTES_PER_SECOND: f64 = 5.0;
/// A batch has 1 KiB or so: a load of many small requests.
const RECORDS: usize = 10;
const RECORD_BYTES: usize = 100;
const WARM_UP: Duration = Duration::from_secs(2);
const BEGIN_WAIT: Duration = Duration::from_secs(60);
