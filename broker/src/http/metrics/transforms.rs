//! What `/metrics` tells of the transforms that this broker runs.

use std::collections::BTreeMap;
use std::fmt;

use millstream_core::cluster::Image;

use super::escape;
use super::family::Family;
use crate::context::Context;
use crate::plugins::worker::Cost;
use crate::workers::State;
use crate::workers::report::{PartitionReport, of_this_broker};

/// Writes everything.
pub fn write(context: &Context, out: &mut String) -> fmt::Result {
    let mut lag = Family::gauge(
        "transform_lag_records",
        "Records of a source's partition that a transform has not done yet",
    );
    let mut failed = Family::gauge("transform_failed", "1 where a transform has stopped at a record");
    let counters: [(&'static str, &'static str, Value); 7] = [
        ("transform_records_in", "Records that a transform has read", |r| {
            r.records_in as f64
        }),
        (
            "transform_records_out",
            "Records that a transform has written",
            |r| r.records_out as f64,
        ),
        (
            "transform_dropped",
            "Records that a transform made nothing of",
            |r| r.dropped as f64,
        ),
        (
            "transform_dead_letters",
            "Records that a transform sent to its dead-letter topic",
            |r| r.dead_lettered as f64,
        ),
        (
            "transform_errors",
            "Records that the plugin of a transform failed on",
            |r| r.errors as f64,
        ),
        ("transform_commits", "Commits of a transform", |r| {
            r.commits as f64
        }),
        (
            "transform_seconds",
            "Time that a transform spent in its plugin",
            |r| r.ns_per_record * r.records_in as f64 / 1e9,
        ),
    ];
    let mut families: Vec<(Family, Value)> = counters
        .into_iter()
        .map(|(name, help, value)| (Family::counter(name, help), value))
        .collect();
    let image = context.controller.image();
    for transform in image.transforms() {
        let name = escape(&transform.spec.name);
        for report in of_this_broker(context, transform) {
            let (topic, partition) = (escape(&report.topic), report.partition);
            let labels = format!("transform=\"{name}\",topic=\"{topic}\",partition=\"{partition}\"");
            if report.lag >= 0 {
                lag.add(&labels, report.lag)?;
            }
            failed.add(&labels, u8::from(report.state == State::Failed))?;
            for (family, value) in &mut families {
                family.add(&labels, value(&report))?;
            }
        }
    }
    write_workers(context, &image, out)?;
    lag.write(out)?;
    failed.write(out)?;
    families.iter().try_for_each(|(family, _)| family.write(out))
}

/// What plugins cost, which partitions of a worker share.
fn write_workers(context: &Context, image: &Image, out: &mut String) -> fmt::Result {
    // Two releases of the same plugin may run at a time, with one configuration each.
    let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
    for ((id, worker, plugin), cost) in context.workers.costs() {
        let Some(transform) = image.transforms().find(|transform| transform.id == id) else {
            continue;
        };
        let (name, plugin) = (escape(&transform.spec.name), escape(&plugin));
        let labels = format!("transform=\"{name}\",worker=\"{worker}\",plugin=\"{plugin}\"");
        let sum = costs.entry(labels).or_default();
        sum.cpu += cost.cpu;
        sum.memory_bytes += cost.memory_bytes;
    }
    let mut cpu = Family::counter(
        "transform_worker_cpu_seconds",
        "Processor time that a worker of a transform spent in its plugin",
    );
    let mut memory = Family::gauge(
        "transform_worker_memory_bytes",
        "Linear memory of the plugin instance of a worker",
    );
    for (labels, cost) in &costs {
        cpu.add(labels, format!("{:.9}", cost.cpu.as_secs_f64()))?;
        memory.add(labels, cost.memory_bytes)?;
    }
    cpu.write(out)?;
    memory.write(out)
}

/// Reads one counter off a report.
type Value = fn(&PartitionReport) -> f64;
