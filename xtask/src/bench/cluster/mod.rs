//! `cargo xtask bench --brokers 3`: three of our brokers beside three of Kafka's, on one machine and in one run.
//!
//! Ours wait for the disks of all in-sync replicas before they acknowledge, Kafka's do not. CPU is summed over the
//! brokers. What needs packets to be lost is left out where that is not allowed.

mod failover;
mod link;
mod servers;
mod throughput;

use anyhow::bail;

use super::BenchArgs;
use super::report::Report;
use super::server::{Binaries, Kind};
use link::Link;
pub use servers::Member;
use servers::Servers;

/// One thing to measure on a running cluster.
struct Scenario {
    name: &'static str,
    what: &'static str,
    link: Link,
    run: fn(&mut Servers, &BenchArgs, &mut Report) -> anyhow::Result<()>,
}

/// Runs the scenarios for clusters.
///
/// # Errors
/// A server cannot be built or started, or no scenario has the name asked for.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    if args.list {
        SCENARIOS
            .iter()
            .for_each(|scenario| println!("{:24} {}", scenario.name, scenario.what));
        return Ok(());
    }
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| args.wants(scenario.name))
        .collect();
    if chosen.is_empty() {
        bail!("no scenario is called like that; --list shows their names");
    }
    let binaries = Binaries::prepare(args)?;
    let mut report = Report::default();
    for link in Link::ALL {
        let of_link: Vec<_> = chosen.iter().filter(|scenario| scenario.link == link).collect();
        if of_link.is_empty() {
            continue;
        }
        if let Err(error) = link.prepare() {
            eprintln!("left out: {error:#}");
            continue;
        }
        for round in 0..args.rounds() {
            for kind in args.servers() {
                eprintln!("round {} of {}: three of {kind}", round + 1, args.rounds());
                let mut servers = Servers::start(kind, &binaries, args, CLUSTER_BROKERS, link)?;
                for scenario in &of_link {
                    if let Err(error) = (scenario.run)(&mut servers, args, &mut report) {
                        eprintln!("  {}: {error:#}", scenario.name);
                        report.fail(scenario.name, kind, &error);
                    }
                }
                servers.stop()?;
            }
        }
    }
    println!("{report}");
    report.write_json("target/bench/results-cluster.json".as_ref())
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "replicated-1k",
        what: "acks=all on three replicas, 12 partitions, records of 1 KiB",
        link: Link::Direct,
        run: |servers, args, report| {
            throughput::produce(servers, args, report, "replicated-1k", 1024, BATCH_BYTES)
        },
    },
    Scenario {
        name: "replicated-100b",
        what: "the same, records of 100 bytes",
        link: Link::Direct,
        run: |servers, args, report| {
            throughput::produce(servers, args, report, "replicated-100b", 100, BATCH_BYTES)
        },
    },
    Scenario {
        name: "replicated-large",
        what: "records of 1 KiB, in batches of 256 KiB rather than 16",
        link: Link::Direct,
        run: |servers, args, report| {
            throughput::produce(servers, args, report, "replicated-large", 1024, 256 << 10)
        },
    },
    Scenario {
        name: "link-loss",
        what: "as replicated-1k, where one packet in a hundred between brokers is lost",
        link: Link::Lossy,
        run: |servers, args, report| {
            throughput::produce(servers, args, report, "link-loss", 1024, BATCH_BYTES)
        },
    },
    Scenario {
        name: "link-delay",
        what: "as replicated-1k, where a round trip between brokers takes 20 ms more",
        link: Link::Slow,
        run: |servers, args, report| {
            throughput::produce(servers, args, report, "link-delay", 1024, BATCH_BYTES)
        },
    },
    Scenario {
        name: "thousand-replicated",
        what: "1,000 partitions on three brokers: memory and CPU while nothing happens",
        link: Link::Direct,
        run: throughput::thousand,
    },
    Scenario {
        name: "kill-leader",
        what: "kill -9 of a leader: from the last acknowledgement to the next, with librdkafka and with our client",
        link: Link::Direct,
        run: failover::kills,
    },
    Scenario {
        name: "stop-leader",
        what: "a leader that ends in good order: the same",
        link: Link::Direct,
        run: failover::stops,
    },
    Scenario {
        name: "catch-up",
        what: "a broker that was away for 1 GB (quick: 256 MB) until it is in sync again",
        link: Link::Direct,
        run: failover::catch_up,
    },
    Scenario {
        name: "catch-up-throttled",
        what: "the same where each leader gives 50 MB/s to it: what producers notice",
        link: Link::Direct,
        run: failover::catch_up_throttled,
    },
];

/// Bytes of a batch: what Kafka's producer sends at most where nobody says otherwise.
const BATCH_BYTES: usize = 16 << 10;
/// Brokers of a cluster, all of them voters.
const CLUSTER_BROKERS: usize = 3;

/// Rounds of a scenario that kills brokers: Kafka takes long to come back.
fn kills(kind: Kind, args: &BenchArgs) -> usize {
    match (kind, args.quick) {
        (Kind::Kafka, true) => 1,
        (Kind::Kafka, false) => 3,
        (Kind::Millstream, true) => 5,
        (Kind::Millstream, false) => 51_usize.div_ceil(args.rounds()),
    }
}
