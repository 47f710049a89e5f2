//! Groups of the new protocol (KIP-848) in a whole broker.

use millstream_core::ids::TopicName;
use millstream_kafka::api::consumer_group_describe::{ConsumerGroupDescribeRequest, DescribedGroup};
use millstream_kafka::api::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use millstream_kafka::api::list_groups::ListGroupsRequest;

use super::*;

/// A client of a group that wants a topic, as it was after the last answer.
#[derive(Default)]
struct Member {
    id: Text,
    epoch: i32,
    owned: Vec<TopicPartitions>,
}

impl World {
    /// A heartbeat that joins or says all there is to say; the member takes and gives back what it is told.
    async fn beat(&self, member: &mut Member) -> ConsumerGroupHeartbeatResponse {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: Text::from("group"),
            member_id: member.id.clone(),
            member_epoch: member.epoch,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![Text::from("topic")]),
            topic_partitions: Some(member.owned.clone()),
            ..Default::default()
        };
        let answer = consumer_group_heartbeat::handle(self.context(), &self.info, 1, request).await;
        if answer.error_code == 0 {
            member.epoch = answer.member_epoch;
            if let Some(Assignment { topic_partitions, .. }) = answer.assignment.clone() {
                member.owned = topic_partitions;
            }
        }
        answer
    }

    /// A member joins, as soon as the coordinator has read its log.
    async fn join(&self, id: &str) -> Member {
        let mut member = Member {
            id: Text::from(id),
            ..Default::default()
        };
        loop {
            match ErrorCode::from_i16(self.beat(&mut member).await.error_code) {
                ErrorCode::None => return member,
                ErrorCode::CoordinatorLoadInProgress => tokio::task::yield_now().await,
                refused => panic!("{refused:?}"),
            }
        }
    }

    async fn describe_group(&self) -> DescribedGroup {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![Text::from("group")],
            ..Default::default()
        };
        let answer = consumer_group_describe::handle(self.context(), &self.info, 1, request).await;
        answer.groups.into_iter().next().unwrap()
    }

    async fn groups_of_type(&self, kind: &str) -> Vec<String> {
        let request = ListGroupsRequest {
            types_filter: vec![Text::from(kind)],
            ..Default::default()
        };
        let answer = list_groups::handle(self.context(), &self.info, 5, request).await;
        answer
            .groups
            .iter()
            .map(|group| group.group_id.to_string())
            .collect()
    }
}

impl Member {
    fn partitions(&self) -> usize {
        self.owned.iter().map(|topic| topic.partitions.len()).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_hear_of_partitions_that_are_added_while_they_consume() {
    let world = World::start().await;
    assert_eq!(world.create("topic", -1, &[]).await.0, 0);
    world
        .context()
        .groups
        .ensure_started(world.context())
        .await
        .unwrap();
    let mut member = world.join("a").await;
    assert_eq!(member.partitions(), 1);
    assert_eq!(world.beat(&mut member).await.error_code, 0);
    let grown = Command::CreatePartitions {
        topic: TopicName::new("topic").unwrap(),
        added: vec![vec![BrokerId(1)]; 3],
    };
    world.context().controller.apply(grown).await.unwrap();
    world.beat(&mut member).await;
    assert_eq!(member.partitions(), 4);
    let described = world.describe_group().await;
    assert_eq!((described.error_code, described.members.len()), (0, 1));
    assert_eq!(world.groups_of_type("Consumer").await, ["group"]);
    assert!(world.groups_of_type("classic").await.is_empty());
    world.end().await;
}
