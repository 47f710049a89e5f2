//! DescribeTransactions: what coordinators know of transactional ids (KIP-664).

use std::sync::Arc;

use millstream_core::transaction::Transaction;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::transaction::unserved;

/// Answers for every id that was asked for.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let described = describe(context, &id);
        described.unwrap_or_else(|code| TransactionState {
            error_code: code.code(),
            transactional_id: id,
            ..Default::default()
        })
    });
    DescribeTransactionsResponse {
        transaction_states: states.collect(),
        ..Default::default()
    }
}

fn describe(context: &Context, id: &Text) -> Result<TransactionState, ErrorCode> {
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let shard = context.transactions.shard(id).map_err(unserved)?;
    let known = shard.look(|transactions| transactions.get(id).map(|known| state(id, known)));
    known.map_err(unserved)?.ok_or(ErrorCode::TransactionalIdNotFound)
}

fn state(id: &Text, known: &Transaction) -> TransactionState {
    let topics = known.partitions.iter().map(|(topic, indexes)| TopicData {
        topic: Text::from(&**topic),
        partitions: indexes.iter().copied().collect(),
        ..Default::default()
    });
    TransactionState {
        transactional_id: id.clone(),
        transaction_state: Text::from(known.state.name()),
        transaction_timeout_ms: known.timeout_ms,
        transaction_start_time_ms: known.started_ms,
        producer_id: known.producer.id,
        producer_epoch: known.producer.epoch,
        topics: topics.collect(),
        ..Default::default()
    }
}
