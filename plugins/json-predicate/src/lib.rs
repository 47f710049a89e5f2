//! Predicates over JSON pointers, such as `/dep_delay > 30 and (exists(/tailnum) or /carrier in ["UA", "AA"])`: what the plugins
//! that choose records have in common.
//!
//! The language is described in `docs/plugins.md`; its grammar stands at the top of `parser.rs`. This crate must not know of
//! records, plugins or configuration.

mod lexer;
mod parser;
mod predicate;

pub use parser::{LENGTH_MAX, NESTING_MAX, ParseError};
pub use predicate::{Predicate, Predicates};
