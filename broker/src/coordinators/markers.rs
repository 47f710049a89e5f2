//! Tells partitions what became of transactions: a marker is written into each that was touched, as long as that takes.
//!
//! Until all of them are written the transactional id can begin nothing new. A partition that is gone is done. A
//! coordinator that moves leaves the rest to the next one, which reads in its log what was decided; a marker that is
//! written twice ends nothing the second time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::cluster::CONSUMER_OFFSETS;
use millstream_core::ids::BrokerId;
use millstream_core::transaction::{Outcome, Version};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use millstream_kafka::wire::Text;
use millstream_storage::EndMarker;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::group;
use super::machine::Follow;
use super::transactions::Decided;
use crate::context::{Context, now_ms};
use crate::handlers::{among, leaders, write_txn_markers};
use crate::ingest;

/// Partitions that are not told yet, by topic.
type Left = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// Tells what is decided, each transaction by itself, until the broker ends.
pub(super) async fn tell(context: Weak<Context>, mut decided: mpsc::UnboundedReceiver<Follow<Decided>>) {
    while let Some(follow) = decided.recv().await {
        let context = context.clone();
        tokio::spawn(async move { finish(&context, follow).await });
    }
}

async fn finish(context: &Weak<Context>, follow: Follow<Decided>) {
    let Follow {
        partition,
        epoch,
        what,
    } = follow;
    let mut left = what.partitions.clone();
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(context) = context.upgrade() else { return };
        let shard = context.transactions.shard_at(partition);
        // Another term does it: it has read what was decided.
        let Some(shard) = shard.ok().filter(|shard| shard.epoch() == epoch) else {
            return;
        };
        if !write_all(&context, &what, epoch.0, &mut left).await {
            return;
        }
        if left.is_empty() {
            // Told once: by older clients the next transaction has the same producer.
            let finished = shard.call(|transactions, now_ms| match what.is_prepared(transactions) {
                true => ((), transactions.finished(now_ms, &what.id, what.producer)),
                false => ((), Default::default()),
            });
            let _ = finished.await;
            // Where it could not be written it is tried again.
            if !shard
                .look(|transactions| what.is_prepared(transactions))
                .unwrap_or(false)
            {
                return;
            }
        }
        drop((shard, context));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Writes what can be written now, and takes it out of `left`. False if another coordinator has taken over.
async fn write_all(context: &Arc<Context>, what: &Decided, coordinator_epoch: i32, left: &mut Left) -> bool {
    let image = context.controller.image();
    let mut by_leader: BTreeMap<BrokerId, Left> = BTreeMap::new();
    left.retain(|name, indexes| {
        let Some(topic) = image.topic(name) else {
            return false;
        };
        indexes.retain(|index| {
            let leader = leaders::leader(&image, topic.id.0, *index);
            if let Some(leader) = leader.filter(|leader| leader.id != leaders::NOBODY) {
                let of_leader = by_leader.entry(BrokerId(leader.id)).or_default();
                of_leader.entry(name.clone()).or_default().insert(*index);
            }
            leader.is_some()
        });
        !indexes.is_empty()
    });
    let mut asked = tokio::task::JoinSet::new();
    for (leader, partitions) in by_leader {
        let request = request(what, coordinator_epoch, &partitions);
        let context = context.clone();
        asked.spawn(async move {
            match leader == context.node {
                true => Ok(write_txn_markers::answer(&context, request).await),
                false => among::ask(&context, leader, TXN_MARKERS_VERSION, request).await,
            }
        });
    }
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(answer)) => {
                if !done(&what.id, answer, left) {
                    return false;
                }
            }
            Ok(Err(reason)) => tracing::debug!(id = %what.id, %reason, "a leader does not take markers"),
            Err(error) => tracing::error!(%error, "markers cannot be written"),
        }
    }
    true
}

fn request(what: &Decided, coordinator_epoch: i32, partitions: &Left) -> WriteTxnMarkersRequest {
    let topics = partitions.iter().map(|(name, indexes)| WritableTxnMarkerTopic {
        name: Text::from(&**name),
        partition_indexes: indexes.iter().copied().collect(),
        ..Default::default()
    });
    let marker = WritableTxnMarker {
        producer_id: what.producer.id,
        producer_epoch: what.producer.epoch,
        transaction_result: what.outcome == Outcome::Commit,
        topics: topics.collect(),
        coordinator_epoch,
        transaction_version: match what.version {
            Version::V1 => 0,
            Version::V2 => 2,
        },
        ..Default::default()
    };
    WriteTxnMarkersRequest {
        markers: vec![marker],
        ..Default::default()
    }
}

/// Takes what is done out of `left`. False if another coordinator has taken over.
fn done(id: &str, answer: WriteTxnMarkersResponse, left: &mut Left) -> bool {
    let topics = answer.markers.into_iter().flat_map(|marker| marker.topics);
    for topic in topics {
        let Some(indexes) = left.get_mut(&*topic.name) else {
            continue;
        };
        for partition in topic.partitions {
            let code = ErrorCode::from_i16(partition.error_code);
            match code {
                // A newer producer has written there: a marker of its has ended this transaction, too.
                ErrorCode::None | ErrorCode::InvalidProducerEpoch => {
                    indexes.remove(&partition.partition_index);
                }
                ErrorCode::TransactionCoordinatorFenced => return false,
                code => {
                    let (topic, partition) = (&*topic.name, partition.partition_index);
                    tracing::debug!(id, topic, partition, ?code, "a marker is to be written again");
                }
            }
        }
        if indexes.is_empty() {
            left.remove(&*topic.name);
        }
    }
    true
}

/// Writes a marker into a partition that this broker leads. Returns when it is safe.
///
/// # Errors
/// Kafka's error code for what keeps it from that.
pub async fn write(
    context: &Arc<Context>,
    topic: &str,
    partition: i32,
    marker: EndMarker,
) -> Result<(), ErrorCode> {
    let found = context.topics.find(topic, Uuid::nil())?;
    let entrance = leaders::led(context, &found, partition)?;
    let refused = |error| ingest::refuse_append(&entrance, error).code;
    if topic == CONSUMER_OFFSETS {
        let shard = context.groups.shard_at(partition).map_err(group::code)?;
        let EndMarker {
            producer_id,
            is_commit,
            ..
        } = marker;
        let written = shard.mark(marker, |groups| groups.replay_marker(producer_id, is_commit));
        return written.await.map_err(group::code)?.map_err(refused);
    }
    let receipt = entrance.append_marker(marker, now_ms()).map_err(refused)?;
    match receipt.durable {
        Some(durable) => ingest::until_safe(durable, Instant::now() + DURABLE_WAIT).await,
        None => Ok(()),
    }
}

/// Version of WriteTxnMarkers that brokers speak.
const TXN_MARKERS_VERSION: i16 = 2;
/// Longest time until a marker is safe; else it is written again.
const DURABLE_WAIT: Duration = Duration::from_secs(5);
/// Pause before markers are written again.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest such pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);
