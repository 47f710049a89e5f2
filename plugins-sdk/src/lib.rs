//! Write Millstream plugins in Rust.
//!
//! A plugin is one type that implements [`Filter`], [`Partitioner`] or [`Transform`], and one macro line that exports it:
//!
//! ```
//! use millstream_plugin::{Filter, Record};
//!
//! struct NonEmpty;
//!
//! impl Filter for NonEmpty {
//!     fn configure(_config: &[u8]) -> Result<Self, String> {
//!         Ok(NonEmpty)
//!     }
//!
//!     fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
//!         Ok(record.value().is_some_and(|value| !value.is_empty()))
//!     }
//! }
//!
//! millstream_plugin::filter!(NonEmpty);
//!
//! assert_eq!(NonEmpty.keep(&Record::new().with_value("x")), Ok(true));
//! ```
//!
//! Records come in batches that are packed as the contract says (`wit/plugin.wit`); this crate hides the packing and
//! copies nothing apart. It has no dependencies: the bindings to the contract are few enough to be written by hand, and
//! `millstream plugin build` writes the contract's types into the module when it makes the component.
//! Nothing is exported when the target is not `wasm32`, so that `cargo test` runs natively.
//!
//! A panic ends the call, and the host throws the instance away. Its message is written to the broker's log first.

#[doc(hidden)]
pub mod abi;
mod errors;
mod filter;
mod headers;
pub mod log;
mod output;
mod partitioner;
mod record;
mod rows;
mod transform;

pub use filter::Filter;
pub use headers::{Header, Headers};
pub use output::{Made, NewRecord, Output, Part};
pub use partitioner::Partitioner;
pub use record::Record;
pub use transform::Transform;

/// What the macros and the tests of this crate reach, and nobody else should.
#[doc(hidden)]
pub mod batch {
    pub use crate::errors::Errors;
    pub use crate::filter::Verdicts;
    pub use crate::partitioner::Targets;
    pub use crate::transform::Rewritten;
}
