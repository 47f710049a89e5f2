//! ListPartitionReassignments: which partitions are on their way to other brokers (KIP-455).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::{Partition, Topic};
use millstream_core::ids::{BrokerId, PartitionIndex};
use millstream_kafka::api::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers with those of the partitions that move; topics that are not there are left out.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = context.controller.image();
    let wanted: Option<BTreeMap<Text, Vec<i32>>> = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    let is_wanted = |topic: &Topic, index: i32| match &wanted {
        None => true,
        Some(wanted) => wanted
            .get(&Text::from(topic.name.as_str()))
            .is_some_and(|indexes| indexes.contains(&index)),
    };
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for (topic, PartitionIndex(index), partition) in image.stored_partitions() {
        if !partition.is_moving() || !is_wanted(topic, index) {
            continue;
        }
        if topics
            .last()
            .is_none_or(|last| *last.name != *topic.name.as_str())
        {
            topics.push(OngoingTopicReassignment {
                name: Text::from(topic.name.as_str()),
                ..Default::default()
            });
        }
        let last = topics.last_mut().expect("one was just pushed");
        last.partitions.push(ongoing(index, partition));
    }
    ListPartitionReassignmentsResponse {
        topics,
        ..Default::default()
    }
}

fn ongoing(index: i32, partition: &Partition) -> OngoingPartitionReassignment {
    let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    OngoingPartitionReassignment {
        partition_index: index,
        replicas: numbers(&partition.replicas),
        adding_replicas: numbers(&partition.adding),
        removing_replicas: numbers(&partition.removing),
        ..Default::default()
    }
}
