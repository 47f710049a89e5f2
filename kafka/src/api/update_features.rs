//! UpdateFeatures: what the whole cluster does from now on, once all of its brokers can (KIP-584).

use crate::wire::Text;

codec! {
    /// Changes features in force.
    pub struct UpdateFeaturesRequest {
        /// How long the broker may take.
        timeout_ms: i32 = 60_000, ..;
        /// The features.
        feature_updates: Vec<FeatureUpdateKey>, ..;
        /// Only says whether they could be changed.
        validate_only: bool, 1..;
    }

    /// A feature that changes.
    pub struct FeatureUpdateKey {
        /// Its name.
        feature: Text, ..;
        /// Its level from now on; below 1 to take it out of force.
        max_version_level: i16, ..;
        /// Whether the level may be lower than before.
        allow_downgrade: bool, ..=0;
        /// 1 only raises the level, 2 lowers it where nothing is lost, 3 in any case.
        upgrade_type: i8 = 1, 1..;
    }

    /// Which features have changed.
    pub struct UpdateFeaturesResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error of the request as a whole, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// One answer for every feature that was asked for.
        results: Vec<UpdatableFeatureResult>, ..=1;
    }

    /// What became of one feature.
    pub struct UpdatableFeatureResult {
        /// Its name.
        feature: Text, ..=1;
        /// Error, or 0.
        error_code: i16, ..=1;
        /// The error in words.
        error_message: Option<Text>, ..=1;
    }
}

request!(UpdateFeatures: UpdateFeaturesRequest => UpdateFeaturesResponse, versions 0..=2, flexible 0..);
