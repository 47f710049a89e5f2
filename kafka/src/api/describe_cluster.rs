//! DescribeCluster: the brokers and their controller (KIP-700, KIP-919).

use crate::wire::Text;

codec! {
    /// Asks for the cluster.
    pub struct DescribeClusterRequest {
        /// Whether to say what the client may do to the cluster.
        include_cluster_authorized_operations: bool, ..;
        /// 1 for brokers, 2 for controllers.
        endpoint_type: i8 = 1, 1..;
        /// Whether brokers that are fenced count.
        include_fenced_brokers: bool, 2..;
    }

    /// The cluster.
    pub struct DescribeClusterResponse {
        /// How long the client was throttled.
        throttle_time_ms: i32, ..;
        /// Error code.
        error_code: i16, ..;
        /// What is wrong.
        error_message: Option<Text>, ..;
        /// 1 for brokers, 2 for controllers.
        endpoint_type: i8 = 1, 1..;
        /// Id of the cluster.
        cluster_id: Text, ..;
        /// Id of the controller; -1 if there is none.
        controller_id: i32 = -1, ..;
        /// The brokers.
        brokers: Vec<DescribeClusterBroker>, ..;
        /// What the client may do to the cluster, as bits.
        cluster_authorized_operations: i32 = i32::MIN, ..;
    }

    /// A broker.
    pub struct DescribeClusterBroker {
        /// Its id.
        broker_id: i32, ..;
        /// Its host name.
        host: Text, ..;
        /// Its port.
        port: i32, ..;
        /// Its rack, if it has one.
        rack: Option<Text>, ..;
        /// Whether it is fenced.
        is_fenced: bool, 2..;
    }
}

request!(
    DescribeCluster: DescribeClusterRequest => DescribeClusterResponse,
    versions 0..=2, flexible 0..
);
