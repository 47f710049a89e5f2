//! ApiVersions (KIP-35, KIP-511): what this broker offers.

use std::sync::Arc;

use millstream_kafka::api::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use millstream_kafka::header::RequestHeader;
use millstream_kafka::{ApiKey, ErrorCode};

use super::{encode, offered};
use crate::connection::{ConnectionInfo, Disconnect, Response};
use crate::context::Context;

/// Answers with every API that is offered.
pub fn handle(
    _context: &Arc<Context>,
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
    ApiVersionsResponse {
        api_keys: api_keys(),
        ..Default::default()
    }
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
