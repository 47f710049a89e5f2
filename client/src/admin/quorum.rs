//! The quorum that decides on the cluster's metadata, and brokers that are gone.

use std::time::Duration;

use millstream_kafka::api::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, PartitionRequest, ReplicaState, TopicRequest,
};
use millstream_kafka::api::unregister_broker::UnregisterBrokerRequest;
use millstream_kafka::wire::Text;

use super::Admin;
use super::topics::said_nothing;
use crate::error::{Error, Result};

/// The quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumDescription {
    /// Who leads; `None` while nobody does, or nobody knows.
    pub leader: Option<i32>,
    /// Counts the leaders.
    pub epoch: i32,
    /// Everything before this is decided.
    pub decided: i64,
    /// Those that decide.
    pub voters: Vec<QuorumMember>,
    /// Those that only follow.
    pub observers: Vec<QuorumMember>,
}

/// A voter or an observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumMember {
    /// Its id.
    pub id: i32,
    /// Where its log ends, if that is known.
    pub log_end: Option<i64>,
    /// Where it is, `host:port`, if that is known.
    pub address: Option<String>,
}

impl Admin {
    /// The quorum. How far its members are only its leader knows: the broker that is asked asks that one, where it can.
    ///
    /// # Errors
    /// No broker answers within some seconds, or it cannot tell.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription> {
        let partition = PartitionRequest {
            partition_index: 0,
            ..Default::default()
        };
        let topic = TopicRequest {
            topic_name: Text::from(METADATA_TOPIC),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = DescribeQuorumRequest {
            topics: vec![topic],
            ..Default::default()
        };
        // Not the controller: there may be none, and it may be what hangs.
        let asked = self.client.retry(|| async {
            let connection = self.client.any().await?;
            let version = connection.version::<DescribeQuorumRequest>(i16::MAX)?;
            let answer = connection.call_at(version, &request, ANSWER_WAIT).await?;
            read_quorum(&answer)
        });
        let told = tokio::time::timeout(WAIT, asked).await;
        told.unwrap_or_else(|_| {
            Err(Error::TimedOut {
                what: "asking brokers about the quorum".to_owned(),
                limit_ms: WAIT.as_millis() as u64,
            })
        })
    }

    /// Forgets a broker that is stopped and empty.
    ///
    /// # Errors
    /// It is not known, runs, or holds replicas.
    pub async fn unregister_broker(&self, id: i32) -> Result<()> {
        let request = UnregisterBrokerRequest {
            broker_id: id,
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        Error::check(answer.error_code, answer.error_message.as_deref(), || {
            format!("removing broker {id}")
        })
    }
}

fn read_quorum(answer: &DescribeQuorumResponse) -> Result<QuorumDescription> {
    let what = || "the quorum".to_owned();
    Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
    let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let found = partitions.next().ok_or_else(|| said_nothing(what()))?;
    Error::check(found.error_code, found.error_message.as_deref(), what)?;
    let member = |state: &ReplicaState| {
        let node = answer.nodes.iter().find(|node| node.node_id == state.replica_id);
        let listener = node.and_then(|node| node.listeners.first());
        QuorumMember {
            id: state.replica_id,
            log_end: (state.log_end_offset >= 0).then_some(state.log_end_offset),
            address: listener.map(|listener| format!("{}:{}", &*listener.host, listener.port)),
        }
    };
    Ok(QuorumDescription {
        leader: (found.leader_id >= 0).then_some(found.leader_id),
        epoch: found.leader_epoch,
        decided: found.high_watermark,
        voters: found.current_voters.iter().map(member).collect(),
        observers: found.observers.iter().map(member).collect(),
    })
}

/// Longest wait for all that is asked about the quorum: nobody who asks in need has more.
const WAIT: Duration = Duration::from_secs(5);
/// Longest wait for one broker, which asks the quorum's leader for a shorter time.
const ANSWER_WAIT: Duration = Duration::from_secs(4);
/// Kafka's topic of the cluster's metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";
