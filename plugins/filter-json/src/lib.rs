//! Filter: keeps the records for which a predicate over JSON pointers holds, such as
//! `/dep_delay > 30 and (exists(/tailnum) or /carrier in ["UA", "AA"])`. A record that is not JSON is an error.
//!
//! The language is described in `docs/plugins.md`; `json-predicate` knows it.

mod config;

pub use config::FilterJson;

use millstream_plugin::{Filter, Record, filter};

#[filter]
impl Filter for FilterJson {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(FilterJson::configure(config)?)
    }

    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
        self.keeps(record.value())
            .map_err(|malformed| malformed.to_string())
    }
}
