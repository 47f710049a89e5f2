//! Features: what the whole cluster does once all of its brokers can.

use millstream_kafka::api::api_versions::ApiVersionsRequest;
use millstream_kafka::api::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use millstream_kafka::wire::Text;

use super::Admin;
use crate::error::{Error, Result};

/// A feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Lowest and highest level that the broker can run.
    pub supported: (i16, i16),
    /// Level in force; `None` if it is not.
    pub level: Option<i16>,
}

impl Admin {
    /// The features of the broker that takes administrative requests.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn features(&self) -> Result<Vec<Feature>> {
        let request = ApiVersionsRequest {
            client_software_name: Text::from("millstream"),
            client_software_version: Text::from(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        Error::check(answer.error_code, None, || "features".to_owned())?;
        let in_force = |name: &Text| {
            let found = answer.finalized_features.iter().find(|f| f.name == *name);
            found.map(|feature| feature.max_version_level)
        };
        let features = answer.supported_features.iter().map(|feature| Feature {
            name: feature.name.to_string(),
            supported: (feature.min_version, feature.max_version),
            level: in_force(&feature.name),
        });
        Ok(features.collect())
    }

    /// Raises the level of a feature.
    ///
    /// # Errors
    /// A broker cannot run it, or it would be lower than before.
    pub async fn update_feature(&self, name: &str, level: i16) -> Result<()> {
        let update = FeatureUpdateKey {
            feature: Text::from(name),
            max_version_level: level,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest {
            timeout_ms: self.limit().as_millis() as i32,
            feature_updates: vec![update],
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        let what = || format!("feature '{name}'");
        Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
        let mut results = answer.results.iter();
        results.try_for_each(|r| Error::check(r.error_code, r.error_message.as_deref(), what))
    }
}
