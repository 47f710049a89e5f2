//! DescribeCluster: the brokers and their controller (KIP-700).

use std::sync::Arc;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use millstream_kafka::wire::Text;

use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers with the one broker that there is.
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
    let node = context.settings.node_id;
    let (host, port) = context.advertised();
    let broker = DescribeClusterBroker {
        broker_id: node,
        host: Text::from(host.as_str()),
        port: i32::from(port),
        rack: context.settings.broker_rack.as_deref().map(Text::from),
        ..Default::default()
    };
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: Text::from(context.cluster_id.as_str()),
        controller_id: node,
        brokers: vec![broker],
        ..Default::default()
    }
}

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
