//! DescribeQuorum: who decides on the cluster's metadata, and how far everyone is (KIP-642, KIP-836, KIP-853).

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Asks for the quorum.
    pub struct DescribeQuorumRequest {
        /// The topics: there is one, `__cluster_metadata`.
        topics: Vec<TopicRequest>, ..;
    }

    /// A topic that is asked for.
    pub struct TopicRequest {
        /// Its name.
        topic_name: Text, ..;
        /// Its partitions.
        partitions: Vec<PartitionRequest>, ..;
    }

    /// A partition that is asked for.
    pub struct PartitionRequest {
        /// Its index.
        partition_index: i32, ..;
    }

    /// The quorum.
    pub struct DescribeQuorumResponse {
        /// Error of the request as a whole, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, 2..;
        /// The topics.
        topics: Vec<TopicData>, ..;
        /// Where voters and observers are.
        nodes: Vec<Node>, 2..;
    }

    /// A topic.
    pub struct TopicData {
        /// Its name.
        topic_name: Text, ..;
        /// Its partitions.
        partitions: Vec<PartitionData>, ..;
    }

    /// A partition.
    pub struct PartitionData {
        /// Its index.
        partition_index: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, 2..;
        /// Who leads; -1 if that is not known.
        leader_id: i32, ..;
        /// Counts the leaders.
        leader_epoch: i32, ..;
        /// Everything before this is decided.
        high_watermark: i64, ..;
        /// Those that decide.
        current_voters: Vec<ReplicaState>, ..;
        /// Those that only follow.
        observers: Vec<ReplicaState>, ..;
    }

    /// A voter or an observer.
    pub struct ReplicaState {
        /// Its id.
        replica_id: i32, ..;
        /// Names its disk.
        replica_directory_id: Uuid, 2..;
        /// Where its log ends; -1 if that is not known.
        log_end_offset: i64, ..;
        /// When it last asked for more, in milliseconds since 1970; -1 if that is not known.
        last_fetch_timestamp: i64 = -1, 1..;
        /// When it was last no further behind than an answer takes; -1 if that is not known.
        last_caught_up_timestamp: i64 = -1, 1..;
    }

    /// Where a voter or an observer is.
    pub struct Node {
        /// Its id.
        node_id: i32, 2..;
        /// Its listeners.
        listeners: Vec<Listener>, 2..;
    }

    /// A listener.
    pub struct Listener {
        /// Its name.
        name: Text, 2..;
        /// Its host.
        host: Text, 2..;
        /// Its port.
        port: u16, 2..;
    }
}

request!(DescribeQuorum: DescribeQuorumRequest => DescribeQuorumResponse, versions 0..=2, flexible 0..);
