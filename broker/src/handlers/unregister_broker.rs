//! UnregisterBroker: a broker that is stopped and empty is forgotten.

use std::sync::Arc;

use millstream_core::ids::BrokerId;
use millstream_kafka::api::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers whether it is forgotten. Kafka forgets brokers that hold replicas too; here they have to be drained first.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let id = BrokerId(request.broker_id);
    match context.controller.remove_broker(id).await {
        Ok(_) => UnregisterBrokerResponse::default(),
        Err(refused) => UnregisterBrokerResponse {
            error_code: refused.code.code(),
            error_message: Some(Text::from(refused.message.as_str())),
            ..Default::default()
        },
    }
}
