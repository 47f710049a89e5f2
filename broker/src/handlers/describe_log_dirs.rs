//! DescribeLogDirs: how much of the disk partitions take (KIP-113, KIP-827).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_kafka::api::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::topics::Topic;

/// Answers for the one directory that there is. Views take nothing and are left out.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let mut wanted: Vec<(Arc<Topic>, Option<Vec<i32>>)> = Vec::new();
    match request.topics {
        None => wanted.extend(context.topics.all().iter().map(|topic| (topic.clone(), None))),
        Some(topics) => {
            let mut partitions: BTreeMap<Text, Vec<i32>> = BTreeMap::new();
            topics
                .into_iter()
                .for_each(|t| partitions.entry(t.topic).or_default().extend(t.partitions));
            for (name, partitions) in partitions {
                if let Ok(topic) = context.topics.find(&name, Uuid::nil()) {
                    wanted.push((topic, Some(partitions)));
                }
            }
        }
    }
    wanted.retain(|(topic, _)| topic.view().is_none());
    let topics = wanted
        .iter()
        .map(|(topic, partitions)| describe(topic, partitions.as_deref()))
        .filter(|described| !described.partitions.is_empty())
        .collect();
    let (total_bytes, usable_bytes) = space(&context.settings.data_dir);
    let log_dir = std::path::absolute(&context.settings.data_dir).unwrap_or_default();
    let result = DescribeLogDirsResult {
        log_dir: Text::from(log_dir.to_string_lossy().into_owned()),
        topics,
        total_bytes,
        usable_bytes,
        ..Default::default()
    };
    DescribeLogDirsResponse {
        results: vec![result],
        ..Default::default()
    }
}

fn describe(topic: &Topic, wanted: Option<&[i32]>) -> DescribeLogDirsTopic {
    let indexes =
        (0..topic.partition_count()).filter(|index| wanted.is_none_or(|wanted| wanted.contains(index)));
    let partition = |index: i32| {
        let size = topic.partition(index)?.with_log(|log| log.size_bytes());
        Some(DescribeLogDirsPartition {
            partition_index: index,
            partition_size: size as i64,
            ..Default::default()
        })
    };
    let partitions = indexes.filter_map(partition).collect();
    DescribeLogDirsTopic {
        name: Text::from(topic.name.as_str()),
        partitions,
        ..Default::default()
    }
}

/// Size of the file system and what is left of it, in bytes; -1 if that cannot be known.
fn space(directory: &str) -> (i64, i64) {
    match rustix::fs::statvfs(directory) {
        Ok(found) => {
            let bytes =
                |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
            (bytes(found.f_blocks), bytes(found.f_bavail))
        }
        Err(_) => (-1, -1),
    }
}
