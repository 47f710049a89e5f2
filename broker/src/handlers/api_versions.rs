//! ApiVersions (KIP-35, KIP-511): what this broker offers.

use std::sync::Arc;

use millstream_core::cluster::FEATURE_LEVELS;
use millstream_kafka::api::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use millstream_kafka::header::RequestHeader;
use millstream_kafka::wire::Text;
use millstream_kafka::{ApiKey, ErrorCode};

use super::update_features::FEATURE;
use super::{encode, offered};
use crate::connection::{ConnectionInfo, Disconnect, Response};
use crate::context::Context;

/// Answers with every API that is offered, with how transactions work (KIP-890: leaders add partitions to them), and with
/// the feature level of a cluster; a lone broker has none.
pub fn handle(
    context: &Arc<Context>,
    info: &ConnectionInfo,
    version: i16,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version))
    {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
    }
    tracing::debug!(
        peer = %info.peer,
        client_id = %info.client_id,
        software = %request.client_software_name,
        version = %request.client_software_version,
        "client"
    );
    let mut answer = ApiVersionsResponse {
        api_keys: api_keys(),
        ..Default::default()
    };
    answer.supported_features.push(SupportedFeatureKey {
        name: Text::from(TRANSACTIONS),
        min_version: 0,
        max_version: TRANSACTIONS_LEVEL,
        ..Default::default()
    });
    answer.finalized_features.push(FinalizedFeatureKey {
        name: Text::from(TRANSACTIONS),
        max_version_level: TRANSACTIONS_LEVEL,
        min_version_level: TRANSACTIONS_LEVEL,
        ..Default::default()
    });
    let image = context.controller.image();
    answer.finalized_features_epoch = image.version() as i64;
    if image.cluster_id().is_some() {
        let (min_version, max_version) = FEATURE_LEVELS;
        answer.supported_features.push(SupportedFeatureKey {
            name: Text::from(FEATURE),
            min_version: min_version as i16,
            max_version: max_version as i16,
            ..Default::default()
        });
        answer.finalized_features.push(FinalizedFeatureKey {
            name: Text::from(FEATURE),
            max_version_level: image.feature_level() as i16,
            min_version_level: image.feature_level() as i16,
            ..Default::default()
        });
    }
    answer
}

/// Answers a version that is not offered in version 0, which every client understands, with what is offered.
///
/// # Errors
/// Never in practice: the answer fits version 0.
pub fn unsupported(header: &RequestHeader) -> Result<Response, Disconnect> {
    let answer = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: api_keys()
            .into_iter()
            .filter(|key| key.api_key == ApiKey::ApiVersions as i16)
            .collect(),
        ..Default::default()
    };
    encode(ApiKey::ApiVersions, 0, header.correlation_id, &answer, Vec::new())
}

fn api_keys() -> Vec<ApiVersion> {
    let mut keys: Vec<ApiVersion> = offered()
        .map(|(key, min_version, max_version)| ApiVersion {
            api_key: key as i16,
            min_version,
            max_version,
            ..Default::default()
        })
        .collect();
    keys.sort_by_key(|key| key.api_key);
    keys
}

/// Software names as KIP-511 allows them.
fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| inner(*b))
}

/// Kafka's name of the feature that says how transactions work.
const TRANSACTIONS: &str = "transaction.version";
/// Every transaction has an epoch of its own.
const TRANSACTIONS_LEVEL: i16 = 2;
