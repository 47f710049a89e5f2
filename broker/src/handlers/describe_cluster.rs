//! DescribeCluster: the brokers and their controller (KIP-700).

use std::sync::Arc;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use millstream_kafka::wire::Text;

use super::leaders;
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers with the brokers that serve, and those that are fenced where they are asked for.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if version >= 1 && request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            CONTROLLERS => (
                ErrorCode::MismatchedEndpointType,
                "this is a broker's listener, not a controller's",
            ),
            _ => (
                ErrorCode::UnsupportedEndpointType,
                "there are no endpoints of this type",
            ),
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Text::from(message)),
            endpoint_type: BROKERS,
            ..Default::default()
        };
    }
    let image = context.controller.image();
    let brokers = image.brokers().values();
    let brokers = brokers.filter(|broker| !broker.fenced || request.include_fenced_brokers);
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: Text::from(context.cluster_id.as_str()),
        controller_id: leaders::controller_id(context),
        brokers: brokers
            .map(|broker| DescribeClusterBroker {
                broker_id: broker.id.0,
                host: Text::from(broker.host.as_str()),
                port: i32::from(broker.port),
                rack: broker.rack.as_deref().map(Text::from),
                is_fenced: broker.fenced,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
