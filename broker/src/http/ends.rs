//! Where partitions end, as their leaders know it.

#![allow(
    clippy::needless_update,
    reason = "messages get fields with new versions: a broker that asks others names those that it decides on"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_kafka::wire::Text;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::context::Context;
use crate::handlers::{among, leaders};

/// Partitions, each by its topic and index.
pub type Partitions = BTreeSet<(String, i32)>;

/// The high watermarks of partitions. Other brokers are asked for what they lead, for a moment; those that are not known
/// are left out.
pub async fn ends(context: &Arc<Context>, partitions: Partitions) -> BTreeMap<(String, i32), i64> {
    let mut found = BTreeMap::new();
    let mut elsewhere: BTreeMap<BrokerId, Partitions> = BTreeMap::new();
    let image = context.controller.image();
    for (name, index) in partitions {
        let running = context.topics.find(&name, Uuid::nil()).ok();
        let partition = running.and_then(|topic| topic.partition(index).cloned());
        if let Some(partition) = partition.filter(|partition| partition.is_leader()) {
            found.insert((name, index), partition.watermarks().high.0);
            continue;
        }
        let leader = image
            .topic(&name)
            .and_then(|topic| leaders::leader(&image, topic.id.0, index))
            .filter(|leader| leader.id != leaders::NOBODY && leader.id != context.node.0);
        if let Some(leader) = leader {
            elsewhere
                .entry(BrokerId(leader.id))
                .or_default()
                .insert((name, index));
        }
    }
    let mut asked = JoinSet::new();
    for (leader, partitions) in elsewhere {
        let (context, request) = (context.clone(), request(partitions));
        asked.spawn(async move {
            let answer = among::ask_any(&context, leader, LIST_OFFSETS_VERSION, request);
            tokio::time::timeout(ANSWER_WAIT, answer).await
        });
    }
    while let Some(answer) = asked.join_next().await {
        let Ok(Ok(Ok(answer))) = answer else {
            tracing::debug!("a leader does not say where its partitions end");
            continue;
        };
        for topic in answer.topics {
            let known = topic
                .partitions
                .into_iter()
                .filter(|known| known.error_code == ErrorCode::None.code());
            found.extend(known.map(|known| ((topic.name.to_string(), known.partition_index), known.offset)));
        }
    }
    found
}

fn request(partitions: Partitions) -> ListOffsetsRequest {
    let mut topics: BTreeMap<String, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (name, index) in partitions {
        topics.entry(name).or_default().push(ListOffsetsPartition {
            partition_index: index,
            timestamp: LATEST,
            ..Default::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
        name: Text::from(name),
        partitions,
        ..Default::default()
    });
    ListOffsetsRequest {
        replica_id: -1,
        topics: topics.collect(),
        ..Default::default()
    }
}

/// How long another broker may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Kafka's time for the offset behind the last record that readers may see.
const LATEST: i64 = -1;
const LIST_OFFSETS_VERSION: i16 = 8;
