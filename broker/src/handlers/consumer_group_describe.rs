//! ConsumerGroupDescribe: state and members of groups of the new protocol (KIP-848).

use std::sync::Arc;

use millstream_core::group::GroupError;
use millstream_core::group::consumer::{AssignedTopic, ConsumerDescription, ConsumerMemberDescription};
use millstream_kafka::api::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member,
    TopicPartitions,
};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers for every group. Clients ask for one that is not of the new protocol again with DescribeGroups.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let describe = |group: Text| match look(context, &group) {
        Ok((Some(description), _)) => answer(group, description),
        Ok((None, exists)) => {
            let message = match exists {
                true => format!("Group {} is not a consumer group.", &*group),
                false => format!("Group {} not found.", &*group),
            };
            refused(group, GroupError::GroupIdNotFound, Some(message))
        }
        Err(error) => refused(group, error, None),
    };
    // Kafka answers for ids that cannot be before it looks for the others.
    let (empty, named): (Vec<Text>, Vec<Text>) =
        request.group_ids.into_iter().partition(|group| group.is_empty());
    ConsumerGroupDescribeResponse {
        groups: empty.into_iter().chain(named).map(describe).collect(),
        ..Default::default()
    }
}

/// The group, if it is of the new protocol; and whether there is one of this id at all.
fn look(context: &Context, group: &str) -> Result<(Option<ConsumerDescription>, bool), GroupError> {
    if group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    let shard = context.groups.shard(group)?;
    shard.look(|groups| (groups.describe_consumer(group), groups.contains(group)))
}

fn answer(group_id: Text, description: ConsumerDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: Text::from(description.state.name()),
        group_epoch: description.epoch,
        assignment_epoch: description.target_epoch,
        assignor_name: Text::from(description.assignor),
        members: description.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(member: ConsumerMemberDescription) -> Member {
    Member {
        member_id: Text::from(&*member.member),
        instance_id: member.instance.map(Text::from),
        rack_id: member.rack.map(Text::from),
        member_epoch: member.epoch,
        client_id: Text::from(member.client_id),
        client_host: Text::from(member.client_host),
        subscribed_topic_names: member.topics.iter().map(|topic| Text::from(&**topic)).collect(),
        // Kafka's word for none is an empty one.
        subscribed_topic_regex: Some(Text::from(member.pattern.as_deref().unwrap_or_default())),
        assignment: assignment(member.assigned),
        target_assignment: assignment(member.target),
        member_type: i8::from(!member.is_classic),
        ..Default::default()
    }
}

fn assignment(topics: Vec<AssignedTopic>) -> Assignment {
    let topics = topics.into_iter().map(|topic| TopicPartitions {
        topic_id: topic.id.0,
        topic_name: Text::from(&*topic.name),
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| partition.0)
            .collect(),
        ..Default::default()
    });
    Assignment {
        topic_partitions: topics.collect(),
        ..Default::default()
    }
}

fn refused(group_id: Text, error: GroupError, message: Option<String>) -> DescribedGroup {
    DescribedGroup {
        error_code: code(error).code(),
        error_message: message.map(Text::from),
        group_id,
        group_state: Text::default(),
        ..Default::default()
    }
}
