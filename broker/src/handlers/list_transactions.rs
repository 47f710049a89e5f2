//! ListTransactions: the transactional ids that this broker coordinates (KIP-664, KIP-994).

use std::sync::Arc;

use millstream_core::group::consumer::Pattern;
use millstream_core::transaction::{Transaction, TransactionState as State};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState,
};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::{Context, now_ms};
use crate::coordinators::transaction::unserved;

/// Lists the ids that all filters let through.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let failed = |code: ErrorCode| ListTransactionsResponse {
        error_code: code.code(),
        ..Default::default()
    };
    let pattern = request
        .transactional_id_pattern
        .as_ref()
        .filter(|p| !p.is_empty());
    let pattern = match pattern.map(|pattern| Pattern::new(pattern)).transpose() {
        Ok(pattern) => pattern,
        Err(_) => return failed(ErrorCode::InvalidRegularExpression),
    };
    let (states, unknown): (Vec<_>, Vec<_>) = request
        .state_filters
        .into_iter()
        .partition(|name| State::from_name(name).is_some());
    // Filters that name only states that there are not let nothing through.
    let has_state_filter = !states.is_empty() || !unknown.is_empty();
    let now = now_ms();
    let is_wanted = |id: &str, known: &Transaction| {
        let age = now.saturating_sub(known.started_ms);
        (!has_state_filter || states.iter().any(|name| &**name == known.state.name()))
            && (request.producer_id_filters.is_empty()
                || request.producer_id_filters.contains(&known.producer.id))
            && (request.duration_filter < 0 || known.started_ms >= 0 && age > request.duration_filter)
            && pattern.as_ref().is_none_or(|pattern| pattern.means(id))
    };
    let mut listed = Vec::new();
    for shard in context.transactions.shards() {
        let found = shard.look(|transactions| {
            let wanted = transactions.iter().filter(|(id, known)| is_wanted(id, known));
            let listed = wanted.map(|(id, known)| TransactionState {
                transactional_id: Text::from(&**id),
                producer_id: known.producer.id,
                transaction_state: Text::from(known.state.name()),
                ..Default::default()
            });
            listed.collect::<Vec<_>>()
        });
        match found {
            Ok(found) => listed.extend(found),
            Err(reason) => return failed(unserved(reason)),
        }
    }
    ListTransactionsResponse {
        unknown_state_filters: unknown,
        transaction_states: listed,
        ..Default::default()
    }
}
