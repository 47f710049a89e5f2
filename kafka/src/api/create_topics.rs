//! CreateTopics: new topics, with their partitions and configurations.

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Creates topics.
    pub struct CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic>, ..;
        /// How long the broker may take.
        timeout_ms: i32 = 60_000, ..;
        /// Only says whether the topics could be created.
        validate_only: bool, ..;
    }

    /// A topic to create.
    pub struct CreatableTopic {
        /// Its name.
        name: Text, ..;
        /// Number of partitions; -1 leaves it to the broker or to the assignments.
        num_partitions: i32, ..;
        /// Replicas of each; -1 leaves it to the broker or to the assignments.
        replication_factor: i16, ..;
        /// Which brokers hold which partitions; empty leaves it to the controller.
        assignments: Vec<CreatableReplicaAssignment>, ..;
        /// Configurations that differ from the broker's.
        configs: Vec<CreatableTopicConfig>, ..;
    }

    /// The brokers of one partition.
    pub struct CreatableReplicaAssignment {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Brokers that hold it, the preferred leader first.
        broker_ids: Vec<i32>, ..;
    }

    /// A configuration of a topic to create.
    pub struct CreatableTopicConfig {
        /// Its name.
        name: Text, ..;
        /// Its value.
        value: Option<Text>, ..;
    }

    /// Which topics there are now.
    pub struct CreateTopicsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every topic that was asked for.
        topics: Vec<CreatableTopicResult>, ..;
    }

    /// What became of one topic.
    pub struct CreatableTopicResult {
        /// Its name.
        name: Text, ..;
        /// Its id (KIP-516).
        topic_id: Uuid, 7..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// Why the configurations are not told, or 0 (KIP-525).
        topic_config_error_code: i16, 5.., tag 0;
        /// Number of its partitions.
        num_partitions: i32 = -1, 5..;
        /// Replicas of each.
        replication_factor: i16 = -1, 5..;
        /// Its configurations.
        configs: Option<Vec<CreatableTopicConfigs>>, 5..;
    }

    /// A configuration of a topic that was created.
    pub struct CreatableTopicConfigs {
        /// Its name.
        name: Text, 5..;
        /// Its value; null if it is a secret.
        value: Option<Text>, 5..;
        /// Whether it cannot be changed.
        read_only: bool, 5..;
        /// Number of where the value comes from.
        config_source: i8 = -1, 5..;
        /// Whether it is a secret.
        is_sensitive: bool, 5..;
    }
}

request!(CreateTopics: CreateTopicsRequest => CreateTopicsResponse, versions 2..=7, flexible 5..);
