//! What is done from time to time: retention, checkpoints, syncs of what nobody waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::context::{Context, now_ms};
use crate::partitions::Partition;

/// Does it until the broker shuts down.
pub async fn run(context: Arc<Context>) {
    let retention = Duration::from_millis(context.settings.log_retention_check_interval_ms as u64);
    let checkpoint = Duration::from_secs(CHECKPOINT_INTERVAL_S);
    let start = Instant::now();
    let mut retention = tokio::time::interval_at(start + retention, retention);
    let mut checkpoint = tokio::time::interval_at(start + checkpoint, checkpoint);
    retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
    checkpoint.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = context.shutdown.subscribe();
    loop {
        let work: fn(&Arc<Partition>) = tokio::select! {
            _ = retention.tick() => apply_retention,
            _ = checkpoint.tick() => write_checkpoint,
            _ = shutdown.wait_for(|down| *down) => return,
        };
        let (partitions, stop) = (context.topics.partitions(), shutdown.clone());
        let done = tokio::task::spawn_blocking(move || {
            partitions.iter().take_while(|_| !*stop.borrow()).for_each(work);
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "housekeeping was interrupted");
        }
    }
}

fn apply_retention(partition: &Arc<Partition>) {
    // What is not durable cannot go.
    partition.request_sync();
    let applied = partition.apply_retention(now_ms());
    match applied {
        Ok(0) => {}
        Ok(segments) => {
            let start = partition.watermarks().log_start.0;
            tracing::info!(topic = %partition.topic, partition = partition.index.0, segments, start, "old segments deleted");
        }
        Err(error) => {
            tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "old segments cannot be deleted");
        }
    }
}

fn write_checkpoint(partition: &Arc<Partition>) {
    partition.request_sync();
    partition.write_checkpoint();
}

/// Time between two checkpoints at most, as Kafka's `log.flush.offset.checkpoint.interval.ms`.
const CHECKPOINT_INTERVAL_S: u64 = 60;
