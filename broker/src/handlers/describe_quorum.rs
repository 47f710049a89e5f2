//! DescribeQuorum: who decides on the cluster's metadata, and how far everyone is (KIP-836, KIP-853).

use std::sync::Arc;

use millstream_core::cluster::Image;
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::{Context, now_ms};

/// Answers for the one partition that there is; the journal or the quorum's log stands for it.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let image = context.controller.image();
    let quorum = Quorum::of(context, &image).await;
    let mut is_described = false;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            let known = &*topic.topic_name == METADATA && index == 0;
            is_described |= known;
            match known {
                true => quorum.describe(&image),
                false => PartitionData {
                    partition_index: index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                    error_message: Some(Text::from(ErrorCode::UnknownTopicOrPartition.message())),
                    ..Default::default()
                },
            }
        });
        TopicData {
            partitions: partitions.collect(),
            topic_name: topic.topic_name.clone(),
            ..Default::default()
        }
    });
    let topics = topics.collect();
    DescribeQuorumResponse {
        topics,
        nodes: match is_described {
            true => quorum.nodes(),
            false => Vec::new(),
        },
        ..Default::default()
    }
}

/// The quorum, as its leader sees it; as this broker does, where that does not answer.
struct Quorum {
    leader: Option<BrokerId>,
    term: u64,
    /// How much is decided.
    decided: u64,
    voters: Vec<Member>,
    observers: Vec<Member>,
}

/// A voter or an observer, where it is, and how much it has, if that is known.
struct Member {
    id: BrokerId,
    address: String,
    end: Option<u64>,
}

impl From<millstream_quorum::Member> for Member {
    fn from(member: millstream_quorum::Member) -> Self {
        Self {
            id: broker_id(member.id),
            address: member.address,
            // Indexes count from 0, Kafka's log ends lie behind the last entry.
            end: member.matched.map(|index| index + 1),
        }
    }
}

impl Quorum {
    async fn of(context: &Context, image: &Image) -> Self {
        if let Some(status) = context.controller.quorum_status_by_leader().await {
            let members = |of: Vec<millstream_quorum::Member>| of.into_iter().map(Member::from).collect();
            return Self {
                // One that is cut off knows who led, not who leads: that may be nobody, and even itself no more.
                leader: status.leader.filter(|_| context.lease.is_valid()).map(broker_id),
                term: status.term,
                decided: status.applied + 1,
                voters: members(status.voters),
                observers: members(status.learners),
            };
        }
        // A broker that is alone decides alone.
        let me = BrokerId(context.settings.node_id);
        let (host, port) = context.advertised();
        Self {
            leader: Some(me),
            term: 1,
            decided: image.version(),
            voters: vec![Member {
                id: me,
                address: format!("{host}:{port}"),
                end: Some(image.version()),
            }],
            observers: Vec::new(),
        }
    }

    fn describe(&self, image: &Image) -> PartitionData {
        let now_ms = now_ms();
        let state = |member: &Member| self.state(member, image, now_ms);
        PartitionData {
            leader_id: self.leader.map_or(-1, |leader| leader.0),
            leader_epoch: i32::try_from(self.term).unwrap_or(i32::MAX),
            high_watermark: number(self.decided),
            current_voters: self.voters.iter().map(state).collect(),
            observers: self.observers.iter().map(state).collect(),
            ..Default::default()
        }
    }

    fn state(&self, member: &Member, image: &Image, now_ms: i64) -> ReplicaState {
        let leads = self.leader == Some(member.id);
        let storage = image.brokers().get(&member.id).map(|broker| broker.storage);
        let has_all = member.end.is_some_and(|end| end >= self.decided);
        ReplicaState {
            replica_id: member.id.0,
            replica_directory_id: storage.unwrap_or(Uuid::nil()),
            log_end_offset: member.end.map_or(-1, number),
            last_fetch_timestamp: if leads { now_ms } else { -1 },
            last_caught_up_timestamp: if leads || has_all { now_ms } else { -1 },
            ..Default::default()
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let members = self.voters.iter().chain(&self.observers);
        let node = |member: &Member| {
            let (host, port) = member.address.rsplit_once(':').unwrap_or((&member.address, ""));
            Node {
                node_id: member.id.0,
                listeners: vec![Listener {
                    name: Text::from(LISTENER),
                    host: Text::from(host.trim_matches(['[', ']'])),
                    port: port.parse().unwrap_or(0),
                    ..Default::default()
                }],
                ..Default::default()
            }
        };
        members.map(node).collect()
    }
}

/// Nodes of the quorum are brokers.
fn broker_id(node: u64) -> BrokerId {
    BrokerId(i32::try_from(node).unwrap_or(i32::MAX))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Kafka's topic of the cluster's metadata.
const METADATA: &str = "__cluster_metadata";
/// Kafka's usual name of a controller's listener.
const LISTENER: &str = "CONTROLLER";
