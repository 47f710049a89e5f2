//! Handlers of administration in a whole broker, without the network. Brokers that do not run are made known to the
//! image: what is decided about them is seen there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use millstream_core::cluster::{self, Command};
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use millstream_kafka::api::create_topics::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use millstream_kafka::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use millstream_kafka::api::describe_quorum::{self as quorum_api, DescribeQuorumRequest};
use millstream_kafka::api::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use millstream_kafka::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use millstream_kafka::api::list_partition_reassignments::ListPartitionReassignmentsRequest;
use millstream_kafka::api::unregister_broker::UnregisterBrokerRequest;
use millstream_kafka::api::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use millstream_kafka::wire::Text;

use super::*;
use crate::{Broker, Settings, broker_configs};

mod new_groups;
mod reserved;

struct World {
    broker: Broker,
    _directory: tempfile::TempDir,
    info: ConnectionInfo,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings::of_test(directory.path());
        Self {
            broker: Broker::start(settings).await.unwrap(),
            _directory: directory,
            info: ConnectionInfo {
                id: 1,
                peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                client_id: Text::default(),
            },
        }
    }

    async fn end(self) {
        self.broker.shutdown().await;
    }

    fn context(&self) -> &Arc<Context> {
        self.broker.context()
    }

    /// Makes another broker known, as if it were there.
    async fn know(&self, id: i32) {
        let broker = cluster::Broker {
            id: BrokerId(id),
            ..Default::default()
        };
        let command = Command::RegisterBroker { broker };
        self.context().controller.apply(command).await.unwrap();
    }

    /// Makes a topic of one partition.
    async fn create(&self, name: &str, factor: i16, brokers: &[i32]) -> (i16, i16) {
        let mut topic = CreatableTopic {
            name: Text::from(name),
            num_partitions: 1,
            replication_factor: factor,
            ..Default::default()
        };
        if !brokers.is_empty() {
            (topic.num_partitions, topic.replication_factor) = (-1, -1);
            topic.assignments = vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: brokers.to_vec(),
                ..Default::default()
            }];
        }
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let answer = create_topics::handle(self.context(), &self.info, 7, request).await;
        (answer.topics[0].error_code, answer.topics[0].replication_factor)
    }

    async fn reassign(&self, topic: &str, replicas: Option<&[i32]>, may_change_factor: bool) -> i16 {
        let partition = ReassignablePartition {
            partition_index: 0,
            replicas: replicas.map(<[i32]>::to_vec),
            ..Default::default()
        };
        let topic = ReassignableTopic {
            name: Text::from(topic),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            allow_replication_factor_change: may_change_factor,
            ..Default::default()
        };
        let answer = alter_partition_reassignments::handle(self.context(), &self.info, 1, request).await;
        assert_eq!(answer.error_code, 0);
        answer.responses[0].partitions[0].error_code
    }

    /// Replicas, adding and removing ones of the only partition that moves.
    async fn moving(&self) -> Option<(Vec<i32>, Vec<i32>, Vec<i32>)> {
        let request = ListPartitionReassignmentsRequest {
            topics: None,
            ..Default::default()
        };
        let answer = list_partition_reassignments::handle(self.context(), &self.info, 0, request).await;
        let mut topics = answer.topics.into_iter();
        let partition = topics.next()?.partitions.into_iter().next()?;
        assert!(topics.next().is_none());
        Some((
            partition.replicas,
            partition.adding_replicas,
            partition.removing_replicas,
        ))
    }

    async fn elect(&self, topics: Option<&str>) -> Vec<(String, i16)> {
        let request = ElectLeadersRequest {
            topic_partitions: topics.map(|name| {
                vec![TopicPartitions {
                    topic: Text::from(name),
                    partitions: vec![0],
                    ..Default::default()
                }]
            }),
            ..Default::default()
        };
        let answer = elect_leaders::handle(self.context(), &self.info, 2, request).await;
        assert_eq!(answer.error_code, 0);
        let results = answer.replica_election_results.into_iter();
        results
            .map(|topic| (topic.topic.to_string(), topic.partition_result[0].error_code))
            .collect()
    }

    async fn alter(&self, kind: i8, resource: &str, name: &str, value: Option<&str>) -> i16 {
        let config = AlterableConfig {
            name: Text::from(name),
            config_operation: if value.is_some() { 0 } else { 1 },
            value: value.map(Text::from),
            ..Default::default()
        };
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: Text::from(resource),
            configs: vec![config],
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..Default::default()
        };
        let answer = incremental_alter_configs::handle(self.context(), &self.info, 1, request).await;
        answer.responses[0].error_code
    }

    /// Value and source of a configuration.
    async fn described(&self, kind: i8, resource: &str, name: &str) -> (Option<String>, i8) {
        let config = self.all_described(kind, resource, name).await.remove(0);
        (config.value.as_deref().map(str::to_owned), config.config_source)
    }

    /// Configurations of this name: one or none.
    async fn all_described(
        &self,
        kind: i8,
        resource: &str,
        name: &str,
    ) -> Vec<DescribeConfigsResourceResult> {
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: Text::from(resource),
            configuration_keys: Some(vec![Text::from(name)]),
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            ..Default::default()
        };
        let mut answer = describe_configs::handle(self.context(), &self.info, 4, request).await;
        answer.results.remove(0).configs
    }
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

#[test]
fn every_api_of_the_codec_is_offered_once() {
    let mut keys: Vec<_> = offered().map(|(key, ..)| key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ApiKey::ALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_broker_keeps_one_copy() {
    let world = World::start().await;
    assert_eq!(world.create("one", -1, &[]).await, (0, 1));
    let refused = ErrorCode::InvalidReplicationFactor.code();
    assert_eq!(world.create("two", 2, &[]).await.0, refused);
    let refused = ErrorCode::InvalidReplicaAssignment.code();
    assert_eq!(world.create("elsewhere", 1, &[2]).await.0, refused);
    assert_eq!(world.create("twice", 1, &[1, 1]).await.0, refused);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_and_the_move_is_taken_back() {
    let world = World::start().await;
    world.know(2).await;
    world.create("t", 1, &[1]).await;
    assert_eq!(world.moving().await, None);
    let code = |code: ErrorCode| code.code();
    assert_eq!(
        world.reassign("nobody-made-this", Some(&[2]), true).await,
        code(ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(
        world.reassign("t", None, true).await,
        code(ErrorCode::NoReassignmentInProgress)
    );
    assert_eq!(
        world.reassign("t", Some(&[7]), true).await,
        code(ErrorCode::InvalidReplicaAssignment)
    );
    assert_eq!(
        world.reassign("t", Some(&[1, 2]), false).await,
        code(ErrorCode::InvalidReplicationFactor)
    );
    assert_eq!(world.reassign("t", Some(&[2]), true).await, 0);
    assert_eq!(world.moving().await, Some((vec![1, 2], vec![2], vec![1])));
    assert_eq!(world.reassign("t", None, true).await, 0);
    assert_eq!(world.moving().await, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elections_say_what_is_not_needed_only_where_it_is_named() {
    let world = World::start().await;
    world.create("t", 1, &[1]).await;
    let needless = ErrorCode::ElectionNotNeeded.code();
    assert_eq!(world.elect(Some("t")).await, [("t".to_owned(), needless)]);
    assert_eq!(world.elect(None).await, []);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(world.elect(Some("u")).await, [("u".to_owned(), unknown)]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_is_described_while_it_is_set() {
    let world = World::start().await;
    world.create("t", 1, &[]).await;
    let list = "leader.replication.throttled.replicas";
    assert_eq!(world.described(TOPIC, "t", list).await, (Some(String::new()), 5));
    assert_eq!(world.alter(TOPIC, "t", list, Some("0:1")).await, 0);
    assert_eq!(
        world.described(TOPIC, "t", list).await,
        (Some("0:1".to_owned()), 1)
    );
    let invalid = ErrorCode::InvalidConfig.code();
    assert_eq!(world.alter(TOPIC, "t", list, Some("0-1")).await, invalid);
    assert_eq!(world.alter(TOPIC, "t", list, None).await, 0);
    for rate in broker_configs::RATES {
        assert!(world.all_described(BROKER, "1", rate.name).await.is_empty());
        assert_eq!(world.alter(BROKER, "", rate.name, Some("7")).await, 0);
        for name in ["", "1"] {
            let config = world.all_described(BROKER, name, rate.name).await.remove(0);
            assert_eq!((config.value.as_deref(), config.config_source), (Some("7"), 3));
            assert!(!config.read_only);
        }
        assert_eq!(world.alter(BROKER, "1", rate.name, Some("8")).await, 0);
        let of_one = world.described(BROKER, "1", rate.name).await;
        assert_eq!(of_one, (Some("8".to_owned()), 2));
        assert_eq!(world.alter(BROKER, "1", rate.name, Some("-8")).await, invalid);
        assert_eq!(world.alter(BROKER, "", rate.name, None).await, 0);
        assert_eq!(world.alter(BROKER, "1", rate.name, None).await, 0);
        assert!(world.all_described(BROKER, "1", rate.name).await.is_empty());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_settings_reach_its_topics_at_once() {
    let world = World::start().await;
    world.create("t", 1, &[]).await;
    let before = world.described(TOPIC, "t", "retention.ms").await;
    assert_eq!(before, (Some("604800000".to_owned()), 5));
    assert_eq!(
        world.alter(BROKER, "", "log.retention.ms", Some("70000")).await,
        0
    );
    assert_eq!(
        world.described(TOPIC, "t", "retention.ms").await,
        (Some("70000".to_owned()), 3)
    );
    assert_eq!(
        world.alter(BROKER, "1", "log.retention.ms", Some("80000")).await,
        0
    );
    assert_eq!(
        world.described(TOPIC, "t", "retention.ms").await,
        (Some("80000".to_owned()), 2)
    );
    assert_eq!(
        world.described(BROKER, "1", "log.retention.ms").await,
        (Some("80000".to_owned()), 2)
    );
    let topic = world.context().topics.find("t", uuid::Uuid::nil()).unwrap();
    assert_eq!(topic.config.retention_ms, 80_000);
    assert_eq!(world.alter(BROKER, "1", "log.retention.ms", None).await, 0);
    assert_eq!(world.alter(BROKER, "", "log.retention.ms", None).await, 0);
    assert_eq!(world.described(TOPIC, "t", "retention.ms").await, before);
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(
        world.alter(BROKER, "1", "num.network.threads", Some("2")).await,
        invalid
    );
    assert_eq!(
        world.alter(BROKER, "77", "log.retention.ms", Some("1")).await,
        invalid
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_broker_is_its_own_quorum_and_has_no_feature_level() {
    let world = World::start().await;
    let request = DescribeQuorumRequest {
        topics: vec![quorum_api::TopicRequest {
            topic_name: Text::from("__cluster_metadata"),
            partitions: vec![quorum_api::PartitionRequest::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = describe_quorum::handle(world.context(), &world.info, 2, request).await;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id), (0, 1));
    assert_eq!(partition.current_voters.len(), 1);
    let update = FeatureUpdateKey {
        feature: Text::from("millstream.version"),
        max_version_level: 1,
        ..Default::default()
    };
    let request = UpdateFeaturesRequest {
        feature_updates: vec![update],
        ..Default::default()
    };
    let refused = ErrorCode::InvalidUpdateVersion.code();
    let answer = update_features::handle(world.context(), &world.info, 1, request.clone()).await;
    assert_eq!((answer.error_code, answer.results[0].error_code), (0, refused));
    let answer = update_features::handle(world.context(), &world.info, 2, request).await;
    assert_eq!((answer.error_code, answer.results.len()), (refused, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_needed_is_not_forgotten() {
    let world = World::start().await;
    let forget = async |broker_id| {
        let request = UnregisterBrokerRequest {
            broker_id,
            ..Default::default()
        };
        unregister_broker::handle(world.context(), &world.info, 0, request)
            .await
            .error_code
    };
    assert_eq!(forget(9).await, ErrorCode::BrokerIdNotRegistered.code());
    assert_eq!(forget(1).await, ErrorCode::PolicyViolation.code());
    world.end().await;
}
