//! The configuration of the filter.

use json_predicate::Predicate;
use json_scan::Malformed;
use plugin_config::{Config, ConfigError};

/// The filter, ready for records.
#[derive(Debug)]
pub struct FilterJson {
    predicate: Predicate,
    keep_tombstones: bool,
}

impl FilterJson {
    /// Reads the configuration: `where`, a predicate, and `tombstones`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["where", "tombstones"])?;
        let predicate = Predicate::parse(&config.required("where")?.text()?)
            .map_err(|error| ConfigError::new(format!("where: {error}")))?;
        let keep_tombstones = config.choice("tombstones", &[("drop", false), ("keep", true)])?;
        Ok(FilterJson {
            predicate,
            keep_tombstones,
        })
    }

    /// Whether a record with this value is kept.
    ///
    /// # Errors
    /// The value is not JSON.
    pub fn keeps(&mut self, value: Option<&[u8]>) -> Result<bool, Malformed> {
        match value {
            Some(doc) => self.predicate.matches(doc),
            None => Ok(self.keep_tombstones),
        }
    }
}
