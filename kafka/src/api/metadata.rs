//! Metadata: brokers, topics, and who leads their partitions.

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Asks for topics and brokers.
    pub struct MetadataRequest {
        /// The topics; null for all of them, which version 0 says with an empty list.
        topics: Option<Vec<MetadataRequestTopic>>, .., null 1..;
        /// Whether topics that do not exist may be made.
        allow_auto_topic_creation: bool = true, 4..;
        /// Whether to say what the client may do to the cluster.
        include_cluster_authorized_operations: bool, 8..=10;
        /// Whether to say what the client may do to the topics.
        include_topic_authorized_operations: bool, 8..;
    }

    /// A topic that is asked for.
    pub struct MetadataRequestTopic {
        /// Its id, or zero.
        topic_id: Uuid, 10..;
        /// Its name; null where the id says it.
        name: Option<Text>, .., null 10..;
    }

    /// The cluster as this broker sees it.
    pub struct MetadataResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, 3..;
        /// The brokers that live.
        brokers: Vec<MetadataResponseBroker>, ..;
        /// Id of the cluster.
        cluster_id: Option<Text>, 2..;
        /// Id of the controller; -1 if there is none.
        controller_id: i32 = -1, 1..;
        /// The topics.
        topics: Vec<MetadataResponseTopic>, ..;
        /// What the client may do to the cluster, as bits.
        cluster_authorized_operations: i32 = i32::MIN, 8..=10;
        /// Error code of the whole response.
        error_code: i16, 13..;
    }

    /// A broker.
    pub struct MetadataResponseBroker {
        /// Its id.
        node_id: i32, ..;
        /// Its host name.
        host: Text, ..;
        /// Its port.
        port: i32, ..;
        /// Its rack, if it has one.
        rack: Option<Text>, 1..;
    }

    /// A topic.
    pub struct MetadataResponseTopic {
        /// Error code.
        error_code: i16, ..;
        /// Its name; null if it was asked for by an id that is not known.
        name: Option<Text>, .., null 12..;
        /// Its id.
        topic_id: Uuid, 10..;
        /// Whether it belongs to the brokers.
        is_internal: bool, 1..;
        /// Its partitions.
        partitions: Vec<MetadataResponsePartition>, ..;
        /// What the client may do to the topic, as bits.
        topic_authorized_operations: i32 = i32::MIN, 8..;
    }

    /// A partition.
    pub struct MetadataResponsePartition {
        /// Error code.
        error_code: i16, ..;
        /// Its index.
        partition_index: i32, ..;
        /// Broker that leads it; -1 if none does.
        leader_id: i32, ..;
        /// Epoch of the leader.
        leader_epoch: i32 = -1, 7..;
        /// Brokers that store it.
        replica_nodes: Vec<i32>, ..;
        /// Those of them that are in sync.
        isr_nodes: Vec<i32>, ..;
        /// Those of them that are offline.
        offline_replicas: Vec<i32>, 5..;
    }
}

request!(Metadata: MetadataRequest => MetadataResponse, versions 0..=13, flexible 9..);
