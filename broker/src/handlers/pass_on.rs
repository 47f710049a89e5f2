//! Records that reach a broker which is about to end: they are passed on to whoever leads now.
//!
//! A client that is told to look for another leader waits before it tries again, librdkafka for a tenth of a second. A
//! broker that ends in good order spares it that: it takes no more, has what it took made safe, hands over, and until it
//! closes its connections the next leader answers through it. What is passed on is a request of Kafka's, so the leader
//! looks at it as if it came from the client. Where it cannot be passed on, the client hears to look for the leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use millstream_kafka::wire::{Chunk, Message, Reader, Writer};
use uuid::Uuid;

use super::{leaders, produce};
use crate::context::Context;
use crate::partitions::Partition;
use crate::peer::CallKind;

/// Waits while a broker that is about to end hands over a partition.
pub async fn handed_over(context: &Context, partition: &Partition) {
    let deadline = Instant::now() + HAND_OVER_WAIT;
    while context.controller.hands_over() && partition.is_leader() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

/// Has another broker store what came for a partition that it leads now; none where that is not known to have worked.
pub async fn pass_on(
    context: &Arc<Context>,
    (acks, timeout_ms): (i16, i32),
    topic: Uuid,
    data: &PartitionProduceData,
) -> Option<PartitionProduceResponse> {
    let request = ProduceRequest {
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
    let request = encode(&request)?;
    let wait = ANSWER_WAIT_MAX.min(Duration::from_millis(timeout_ms.max(0) as u64));
    let deadline = Instant::now() + HAND_OVER_WAIT;
    loop {
        let leader = leaders::leader(&context.controller.image(), topic, data.index)?;
        let is_elsewhere = leader.id != leaders::NOBODY && leader.id != context.settings.node_id;
        let answer = match is_elsewhere {
            true => ask(context, BrokerId(leader.id), request.clone(), wait).await?,
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
    context: &Context,
    leader: BrokerId,
    request: Bytes,
    wait: Duration,
) -> Option<PartitionProduceResponse> {
    let called = context
        .peers
        .as_ref()?
        .call(leader, CallKind::PassedOn, request, wait);
    let answer = called
        .await
        .map_err(|error| error.to_string())
        .and_then(|answer| {
            ProduceResponse::decode(&mut Reader::new(answer), VERSION).map_err(|error| error.to_string())
        });
    match answer {
        Ok(mut answer) => answer.responses.pop()?.partition_responses.pop(),
        Err(reason) => {
            tracing::debug!(leader = leader.0, reason, "records cannot be passed on");
            None
        }
    }
}

/// Stores what another broker passes on. Answers when it is as safe as the client asked.
///
/// # Errors
/// The message cannot be read.
pub async fn serve(context: &Arc<Context>, request: Bytes) -> Result<Bytes, String> {
    let request = ProduceRequest::decode(&mut Reader::new(request), VERSION);
    let request = request.map_err(|error| error.to_string())?;
    let answer = produce::store_all(context, VERSION, request).await;
    encode(&answer).ok_or_else(|| "the answer cannot be encoded".to_owned())
}

fn encode(message: &impl Message) -> Option<Bytes> {
    let mut writer = Writer::new();
    message.encode(&mut writer, VERSION).ok()?;
    let mut bytes = BytesMut::new();
    for chunk in writer.finish() {
        match chunk {
            Chunk::Bytes(chunk) => bytes.extend_from_slice(&chunk),
            _ => return None,
        }
    }
    Some(bytes.freeze())
}

/// Version of Produce that brokers speak: topics by id, so that none of the same name is meant.
const VERSION: i16 = 13;
/// Longest time until another broker leads.
const HAND_OVER_WAIT: Duration = Duration::from_millis(1500);
/// Longest time that an answer is waited for.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at who leads.
const LOOK: Duration = Duration::from_millis(2);
