//! Filter for a topic's ingest: refuses records that are not JSON, lack a required field, or have a field of the wrong type.

mod validation;

pub use validation::{Expected, Invalid, Validation};

use millstream_plugin::{Filter, Record, filter};

#[filter]
impl Filter for Validation {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Validation::configure(config)?)
    }

    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
        let drop_invalid = self.drop_invalid;
        match self.check(record.value()) {
            Ok(()) => Ok(true),
            Err(_) if drop_invalid => Ok(false),
            Err(invalid) => Err(invalid.to_string()),
        }
    }
}
