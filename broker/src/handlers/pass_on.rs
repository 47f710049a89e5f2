//! Records that reach a broker which is about to end: they are passed on to whoever leads now.
//!
//! A client that is told to look for another leader waits before it tries again, librdkafka for a tenth of a second. A
//! broker that ends in good order spares it that: it takes no more, has what it took made safe, hands over, and until it
//! closes its connections the next leader answers through it. What is passed on is a request of Kafka's, so the leader
//! looks at it as if it came from the client. Where it cannot be passed on, the client hears to look for the leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use uuid::Uuid;

use super::produce::Asked;
use super::{among, leaders};
use crate::context::Context;
use crate::partitions::Partition;

/// Waits while a broker that is about to end hands over a partition.
pub async fn handed_over(context: &Context, partition: &Partition) {
    let deadline = Instant::now() + HAND_OVER_WAIT;
    while context.controller.hands_over() && partition.is_leader() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

/// Has another broker store what came for a partition that it leads now; none where that is not known to have worked.
pub(super) async fn pass_on(
    context: &Arc<Context>,
    asked: &Asked,
    topic: Uuid,
    data: &PartitionProduceData,
) -> Option<PartitionProduceResponse> {
    // The version that brokers speak would add the partition to the transaction, which is for the producer to do.
    if asked.transactional_id.is_some() && !asked.adds_partitions {
        return None;
    }
    let (acks, timeout_ms) = asked.told;
    let request = ProduceRequest {
        transactional_id: asked.transactional_id.clone(),
        // Without an answer nobody would know whether it was taken.
        acks: if acks == 0 { 1 } else { acks },
        timeout_ms,
        topic_data: vec![TopicProduceData {
            topic_id: topic,
            partition_data: vec![data.clone()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let deadline = Instant::now() + HAND_OVER_WAIT;
    loop {
        let leader = leaders::leader(&context.controller.image(), topic, data.index)?;
        let is_elsewhere = leader.id != leaders::NOBODY && leader.id != context.settings.node_id;
        let answer = match is_elsewhere {
            true => ask(context, BrokerId(leader.id), request.clone()).await?,
            false => PartitionProduceResponse {
                error_code: ErrorCode::NotLeaderOrFollower.code(),
                ..Default::default()
            },
        };
        // The next leader may hear a moment later than this broker that it is.
        if answer.error_code != ErrorCode::NotLeaderOrFollower.code() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask(
    context: &Arc<Context>,
    leader: BrokerId,
    request: ProduceRequest,
) -> Option<PartitionProduceResponse> {
    match among::ask(context, leader, VERSION, request).await {
        Ok(mut answer) => answer.responses.pop()?.partition_responses.pop(),
        Err(reason) => {
            tracing::debug!(leader = leader.0, reason, "records cannot be passed on");
            None
        }
    }
}

/// Version of Produce that brokers speak: topics by id, so that none of the same name is meant.
const VERSION: i16 = 13;
/// Longest time until another broker leads.
const HAND_OVER_WAIT: Duration = Duration::from_millis(1500);
/// Pause between two looks at who leads.
const LOOK: Duration = Duration::from_millis(2);
