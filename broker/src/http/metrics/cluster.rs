//! What `/metrics` tells of a cluster: partitions and their replicas, brokers, the quorum, the ways between brokers.
//!
//! Labels are topics, partitions and brokers, of which the image bounds the number. What is told of a partition, its
//! leader tells; what is told of the cluster, every broker tells as its own image has it.

use std::fmt;

use millstream_core::cluster::Image;
use millstream_core::ids::BrokerId;
use uuid::Uuid;

use super::family::Family;
use super::partitions::stored;
use crate::context::{Context, now_ms};
use crate::handlers::leaders;

/// Writes everything. A lone broker has the same families, most of them without samples.
pub fn write(context: &Context, out: &mut String) -> fmt::Result {
    let image = context.controller.image();
    write_brokers(&image, out)?;
    write_partitions(context, &image, out)?;
    write_followers(context, &image, out)?;
    write_replication(context, out)?;
    write_quorum(context, out)?;
    write_peers(context, out)
}

fn write_brokers(image: &Image, out: &mut String) -> fmt::Result {
    let mut brokers = Family::gauge("cluster_brokers", "Brokers of the cluster, by what they do");
    let count = |which: fn(&millstream_core::cluster::Broker) -> bool| {
        image.brokers().values().filter(|broker| which(broker)).count()
    };
    brokers.add("state=\"serving\"", count(|b| !b.fenced && !b.draining))?;
    brokers.add("state=\"draining\"", count(|b| !b.fenced && b.draining))?;
    brokers.add("state=\"fenced\"", count(|b| b.fenced))?;
    brokers.write(out)?;
    let mut version = Family::gauge(
        "image_version",
        "Changes of the cluster's image that are in force here",
    );
    version.add("", image.version())?;
    version.write(out)
}

fn write_partitions(context: &Context, image: &Image, out: &mut String) -> fmt::Result {
    let me = BrokerId(context.settings.node_id);
    let mut in_sync = Family::gauge(
        "partition_in_sync_replicas",
        "In-sync replicas of a partition that is led here",
    );
    let mut replicas = Family::gauge("partition_replicas", "Replicas of a partition that is led here");
    let mut under = Family::gauge(
        "partition_under_replicated",
        "Whether replicas of a partition that is led here are not in sync",
    );
    let mut below = Family::gauge(
        "partition_below_min_in_sync",
        "Whether a partition that is led here has fewer in-sync replicas than min.insync.replicas",
    );
    let mut epochs = Family::gauge(
        "partition_leader_epoch",
        "Leaders that a partition has had before the one of now",
    );
    let (mut led, mut under_replicated, mut offline) = (0_usize, 0_usize, 0_usize);
    for (topic, index, partition, labels) in stored(image) {
        offline += usize::from(leaders::leader_of(image, partition).id == leaders::NOBODY);
        if partition.replicas.contains(&me) {
            epochs.add(&labels, partition.leader_epoch)?;
        }
        if partition.leader != Some(me) {
            continue;
        }
        led += 1;
        under_replicated += usize::from(partition.is_under_replicated());
        in_sync.add(&labels, partition.isr.len())?;
        replicas.add(&labels, partition.replicas.len())?;
        under.add(&labels, u8::from(partition.is_under_replicated()))?;
        let running = context.topics.find(topic.name.as_str(), Uuid::nil()).ok();
        if let Some(running) = running.as_ref().and_then(|topic| topic.partition(index.0)) {
            below.add(
                &labels,
                u8::from(running.is_leader() && !running.has_enough_in_sync()),
            )?;
        }
    }
    for family in [in_sync, replicas, under, below, epochs] {
        family.write(out)?;
    }
    for (name, help, value) in [
        ("led_partitions", "Partitions that this broker leads", led),
        (
            "under_replicated_partitions",
            "Partitions led here of which replicas are not in sync",
            under_replicated,
        ),
        (
            "offline_partitions",
            "Partitions of the cluster that nobody leads",
            offline,
        ),
    ] {
        let mut family = Family::gauge(name, help);
        family.add("", value)?;
        family.write(out)?;
    }
    Ok(())
}

/// How far followers are behind the partitions that are led here.
fn write_followers(context: &Context, image: &Image, out: &mut String) -> fmt::Result {
    let mut records = Family::gauge(
        "follower_lag_records",
        "Records of a partition that is led here which a follower does not have on its disk",
    );
    let mut bytes = Family::gauge("follower_lag_bytes", "Bytes of these records");
    let mut seconds = Family::gauge(
        "follower_lag_seconds",
        "Time since a follower held all that its leader had",
    );
    let now_ms = now_ms();
    for (topic, index, _, labels) in stored(image) {
        let running = context.topics.find(topic.name.as_str(), Uuid::nil()).ok();
        let Some(partition) = running.as_ref().and_then(|topic| topic.partition(index.0)) else {
            continue;
        };
        let followers = partition.followers(now_ms);
        if followers.is_empty() {
            continue;
        }
        let end = partition.watermarks().log_end;
        for follower in followers {
            let labels = format!("{labels},broker=\"{}\"", follower.id);
            let lacks = partition.with_log(|log| log.bytes_from(follower.durable_end));
            records.add(&labels, end.since(follower.durable_end).max(0))?;
            bytes.add(&labels, lacks.unwrap_or(0))?;
            seconds.add(&labels, follower.lag_ms.max(0) as f64 / 1000.0)?;
        }
    }
    for family in [records, bytes, seconds] {
        family.write(out)?;
    }
    Ok(())
}

/// What is copied from this broker, and to it.
fn write_replication(context: &Context, out: &mut String) -> fmt::Result {
    let stats = context.replication.stats();
    let mut bytes = Family::counter(
        "replication_bytes",
        "Bytes that were copied, with what frames them",
    );
    bytes.add("direction=\"in\"", stats.bytes_in)?;
    bytes.add("direction=\"out\"", stats.bytes_out)?;
    bytes.write(out)?;
    let mut streams = Family::gauge(
        "replication_streams",
        "Brokers that are followed, and that follow",
    );
    streams.add("to=\"leaders\"", stats.leaders)?;
    streams.add("to=\"followers\"", stats.followers)?;
    streams.write(out)?;
    let mut failed = Family::gauge(
        "failed_partitions",
        "Partitions that take no writes here: their disk failed, or is full",
    );
    failed.add("", context.replication.failed_partitions().len())?;
    failed.write(out)
}

fn write_quorum(context: &Context, out: &mut String) -> fmt::Result {
    let mut term = Family::gauge(
        "quorum_term",
        "Term of the quorum: grows with every election of its leader",
    );
    let mut leader = Family::gauge(
        "quorum_leader",
        "Broker that leads the quorum; -1 while nobody does",
    );
    let mut voters = Family::gauge("quorum_voters", "Brokers that vote");
    let mut lag = Family::gauge(
        "quorum_apply_lag_entries",
        "Entries of the quorum that are not in force here yet",
    );
    if let Some(status) = context.controller.quorum_status() {
        let id = status.leader.and_then(|id| i64::try_from(id).ok());
        term.add("", status.term)?;
        leader.add("", id.unwrap_or(-1))?;
        voters.add("", status.voters.len())?;
        lag.add("", status.last_log.saturating_sub(status.applied))?;
    }
    for family in [term, leader, voters, lag] {
        family.write(out)?;
    }
    Ok(())
}

/// The ways to other brokers, as QUIC sees them.
fn write_peers(context: &Context, out: &mut String) -> fmt::Result {
    let mut rtt = Family::gauge("peer_rtt_seconds", "Estimated round trip to a broker");
    let mut lost = Family::counter("peer_lost_packets", "Packets to a broker that were lost");
    let mut window = Family::gauge(
        "peer_congestion_window_bytes",
        "Bytes that may be under way to a broker",
    );
    let stats = context.peers.as_ref().map(|peers| peers.stats());
    for peer in stats.into_iter().flatten() {
        let labels = format!("broker=\"{}\",connection=\"{}\"", peer.id, peer.class);
        rtt.add(&labels, peer.rtt.as_secs_f64())?;
        lost.add(&labels, peer.lost_packets)?;
        window.add(&labels, peer.congestion_window)?;
    }
    for family in [rtt, lost, window] {
        family.write(out)?;
    }
    Ok(())
}
