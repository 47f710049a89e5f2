//! What `/metrics` tells of the logs that this broker keeps.

use std::fmt;

use millstream_core::cluster::{Image, Partition, Topic};
use millstream_core::ids::PartitionIndex;
use uuid::Uuid;

use super::escape;
use super::family::Family;
use crate::context::{Context, now_ms};

/// Writes everything.
pub fn write(context: &Context, out: &mut String) -> fmt::Result {
    let mut sizes = Family::gauge("log_size_bytes", "Size of a partition's log");
    let mut ends = Family::gauge("log_end_offset", "Offset of a partition's next record");
    let mut undecided = Family::gauge(
        "last_stable_offset_lag",
        "Offsets of a partition that readers of committed records do not see yet: from the last stable offset to the high watermark",
    );
    let mut open = Family::gauge("open_transactions", "Transactions of a partition that are open");
    let mut oldest = Family::gauge(
        "oldest_transaction_age_seconds",
        "Time since the first record of the transaction that holds back a partition's last stable offset, by the record",
    );
    let (image, now_ms) = (context.controller.image(), now_ms());
    for (topic, index, _, labels) in stored(&image) {
        let running = context.topics.find(topic.name.as_str(), Uuid::nil()).ok();
        let Some(partition) = running.as_ref().and_then(|topic| topic.partition(index.0)) else {
            continue;
        };
        let watermarks = partition.watermarks();
        sizes.add(&labels, partition.with_log(|log| log.size_bytes()))?;
        ends.add(&labels, watermarks.log_end)?;
        undecided.add(&labels, watermarks.high.since(watermarks.last_stable))?;
        open.add(&labels, partition.open_transactions())?;
        // A log that cannot be read is told of where somebody reads it.
        if let Ok(Some(begun_ms)) = partition.oldest_transaction_ms() {
            oldest.add(&labels, now_ms.saturating_sub(begun_ms).max(0) as f64 / 1000.0)?;
        }
    }
    for family in [sizes, ends, undecided, open, oldest] {
        family.write(out)?;
    }
    Ok(())
}

/// Every partition that records are stored in, with its topic and its labels.
pub(super) fn stored(image: &Image) -> impl Iterator<Item = (&Topic, PartitionIndex, &Partition, String)> {
    let topics = image.topics().filter(|topic| !topic.is_view());
    topics.flat_map(|topic| {
        let name = escape(topic.name.as_str());
        topic.partitions.iter().zip(0..).map(move |(partition, index)| {
            let labels = format!("topic=\"{name}\",partition=\"{index}\"");
            (&**topic, PartitionIndex(index), partition, labels)
        })
    })
}
