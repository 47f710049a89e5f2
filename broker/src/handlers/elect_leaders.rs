//! ElectLeaders: preferred leaders lead again, or partitions go on with a replica that may have lost records (KIP-460).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::{Command, Election, Image, Outcome, PartitionRefusal};
use millstream_core::ids::{PartitionIndex, TopicId};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use millstream_kafka::wire::Text;

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every partition that is named; where none is, for those whose leader was to be another one.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let kind = match request.election_type {
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        _ => return failed(ErrorCode::InvalidRequest),
    };
    let image = context.controller.image();
    let (asked, mut answers) = match &request.topic_partitions {
        Some(topics) => named(&image, topics),
        None => (in_need(&image, kind), Vec::new()),
    };
    if !asked.is_empty() {
        let command = Command::ElectLeaders {
            kind,
            partitions: Some(asked),
        };
        let elections = match admin::apply(context, command, false).await {
            Ok(Outcome::Elections(elections)) => elections,
            Ok(_) => unreachable!("an election comes to who was elected"),
            Err(denied) => return failed(denied.code),
        };
        for election in elections {
            let refusal = election.result.err();
            // Whoever asks for all means those that need it.
            let needless = matches!(refusal, Some(PartitionRefusal::ElectionNotNeeded { .. }));
            let topic = image.topic_by_id(election.topic);
            let topic = topic.filter(|_| !needless || request.topic_partitions.is_some());
            if let Some(topic) = topic {
                let denied = refusal.as_ref().map(admin::partition_denied);
                answers.push((Text::from(topic.name.as_str()), election.partition.0, denied));
            }
        }
    }
    ElectLeadersResponse {
        replica_election_results: by_topic(answers),
        ..Default::default()
    }
}

/// A partition, and why it has no other leader, if so.
type Answer = (Text, i32, Option<Denied>);

/// The partitions that a request names, and answers for those that are not there.
fn named(image: &Image, topics: &[TopicPartitions]) -> (Vec<(TopicId, PartitionIndex)>, Vec<Answer>) {
    let (mut asked, mut answers) = (Vec::new(), Vec::new());
    for topic in topics {
        match image.topic(&topic.topic) {
            Some(found) => {
                let partitions = topic.partitions.iter();
                asked.extend(partitions.map(|index| (found.id, PartitionIndex(*index))));
            }
            None => {
                let message = format!("there is no topic '{}'", &*topic.topic);
                let denied = Denied::new(ErrorCode::UnknownTopicOrPartition, message);
                let partitions = topic.partitions.iter();
                answers.extend(partitions.map(|index| (topic.topic.clone(), *index, Some(denied.clone()))));
            }
        }
    }
    (asked, answers)
}

/// Partitions that ought to have another leader, whether or not they can.
fn in_need(image: &Image, kind: Election) -> Vec<(TopicId, PartitionIndex)> {
    image
        .stored_partitions()
        .filter(|(_, _, partition)| match kind {
            Election::Preferred => partition.leader != partition.preferred(),
            Election::Unclean => partition.leader.is_none(),
        })
        .map(|(topic, index, _)| (topic.id, index))
        .collect()
}

fn by_topic(answers: Vec<Answer>) -> Vec<ReplicaElectionResult> {
    let mut topics: BTreeMap<Text, Vec<PartitionResult>> = BTreeMap::new();
    for (topic, partition_id, denied) in answers {
        topics.entry(topic).or_default().push(PartitionResult {
            partition_id,
            error_code: denied.as_ref().map_or(0, |denied| denied.code.code()),
            error_message: denied.as_ref().and_then(Denied::text),
            ..Default::default()
        });
    }
    let result = |(topic, partition_result)| ReplicaElectionResult {
        topic,
        partition_result,
        ..Default::default()
    };
    topics.into_iter().map(result).collect()
}

fn failed(code: ErrorCode) -> ElectLeadersResponse {
    ElectLeadersResponse {
        error_code: code.code(),
        ..Default::default()
    }
}

/// Types of elections in the protocol.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
