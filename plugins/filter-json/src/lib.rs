//! Filter: keeps the records for which a predicate over JSON pointers holds, such as
//! `/dep_delay > 30 and (exists(/tailnum) or /carrier in ["UA", "AA"])`. A record that is not JSON is an error.
//!
//! The language is described in `docs/plugins.md`; its grammar stands at the top of `parser.rs`.

mod config;
mod lexer;
mod parser;
mod predicate;

pub use config::FilterJson;
pub use parser::{LENGTH_MAX, NESTING_MAX, ParseError};
pub use predicate::Predicate;

use millstream_plugin::{Filter, Record};

impl Filter for FilterJson {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(FilterJson::configure(config)?)
    }

    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
        self.keeps(record.value())
            .map_err(|malformed| malformed.to_string())
    }
}

millstream_plugin::filter!(FilterJson);
