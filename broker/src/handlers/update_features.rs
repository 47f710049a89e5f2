//! UpdateFeatures: the cluster's feature level (KIP-584). There is one feature, [`FEATURE`].

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::cluster::Command;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every feature, or, in versions that know no other answer, with the first error.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let mut seen = BTreeSet::new();
    let mut results = Vec::with_capacity(request.feature_updates.len());
    let mut first = None;
    for update in request.feature_updates {
        let updated = match seen.insert(update.feature.clone()) {
            true => self::update(context, &update, request.validate_only).await,
            false => {
                let message = "the request names the feature twice";
                Err(Denied::new(ErrorCode::InvalidRequest, message))
            }
        };
        let denied = updated.err();
        results.push(UpdatableFeatureResult {
            feature: update.feature,
            error_code: denied.as_ref().map_or(0, |denied| denied.code.code()),
            error_message: denied.as_ref().and_then(Denied::text),
            ..Default::default()
        });
        first = first.or(denied);
    }
    if version < RESULTS_VERSION_END {
        return UpdateFeaturesResponse {
            results,
            ..Default::default()
        };
    }
    UpdateFeaturesResponse {
        error_code: first.as_ref().map_or(0, |denied| denied.code.code()),
        error_message: first.as_ref().and_then(Denied::text),
        ..Default::default()
    }
}

async fn update(
    context: &Arc<Context>,
    update: &FeatureUpdateKey,
    validate_only: bool,
) -> Result<(), Denied> {
    let refused = |message: String| Denied::new(ErrorCode::InvalidUpdateVersion, message);
    if &*update.feature != FEATURE {
        let message = format!("there is no feature '{}', only {FEATURE}", &*update.feature);
        return Err(refused(message));
    }
    if context.controller.image().cluster_id().is_none() {
        return Err(refused("a lone broker has no feature level".to_owned()));
    }
    let level = u16::try_from(update.max_version_level)
        .ok()
        .filter(|level| *level > 0);
    let level = level.ok_or_else(|| refused(format!("{FEATURE} cannot be taken out of force")))?;
    let command = Command::SetFeatureLevel { level };
    admin::apply(context, command, validate_only).await.map(|_| ())
}

/// The name of the cluster's feature level in the protocol.
pub(super) const FEATURE: &str = "millstream.version";
/// From this version on, there are no answers for single features.
const RESULTS_VERSION_END: i16 = 2;
