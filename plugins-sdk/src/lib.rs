//! Write Millstream plugins in Rust.
//!
//! A plugin is a function:
//!
//! ```
//! use millstream_plugin::{Output, Record, transform};
//!
//! #[transform]
//! fn enrich(record: &Record, out: &mut Output) {
//!     if let Some(value) = record.value() {
//!         out.with_value(&value.to_ascii_uppercase()).with_header("by", "enrich");
//!     }
//! }
//! # let mut out = Output::new();
//! # enrich(&Record::new().with_value("x"), &mut out);
//! # assert_eq!(out.values(), [Some(&b"X"[..])]);
//! ```
//!
//! or, if it has a configuration or keeps something from record to record, a type that implements [`Filter`], [`Partitioner`] or
//! [`Transform`]. The same attributes export it:
//!
//! ```
//! use millstream_plugin::{Filter, Record, filter};
//!
//! struct AtLeast(usize);
//!
//! #[filter]
//! impl Filter for AtLeast {
//!     fn configure(config: &[u8]) -> Result<Self, String> {
//!         let text = std::str::from_utf8(config).map_err(|error| error.to_string())?;
//!         text.parse().map(AtLeast).map_err(|_| format!("{text:?} is no length"))
//!     }
//!
//!     fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
//!         Ok(record.value().is_some_and(|value| value.len() >= self.0))
//!     }
//! }
//!
//! assert_eq!(AtLeast(2).keep(&Record::new().with_value("x")), Ok(false));
//! ```
//!
//! Records come in batches that are packed as the contract says (`wit/plugin.wit`); this crate hides the packing and
//! copies nothing apart. It has no dependencies: the bindings to the contract are few enough to be written by hand, and
//! `millstream plugin build` writes the contract's types into the module when it makes the component.
//! Nothing is exported when the target is not `wasm32`, so that `cargo test` runs natively; [`testing`] helps where a transform
//! writes to several sinks.
//!
//! A panic ends the call, and the host throws the instance away. Its message is written to the broker's log first.

#[doc(hidden)]
pub mod abi;
mod errors;
mod filter;
mod headers;
pub mod log;
mod outcome;
mod output;
mod partitioner;
mod record;
mod rows;
mod sinks;
pub mod testing;
mod transform;

pub use filter::Filter;
pub use headers::{Header, Headers};
/// Makes a function `fn(&Record) -> bool`, or one that returns a `Result`, the component's filter; or the type of the
/// [`Filter`](trait@Filter) whose `impl` it stands before.
pub use millstream_plugin_macros::filter;
/// Makes a function `fn(&Record, partitions: u32) -> u32`, or one that returns a `Result`, the component's partitioner; or the type
/// of the [`Partitioner`](trait@Partitioner) whose `impl` it stands before.
pub use millstream_plugin_macros::partitioner;
/// Makes a function `fn(&Record, &mut Output)`, which may return a `Result<(), E>`, the component's transform; or the type of
/// the [`Transform`](trait@Transform) whose `impl` it stands before. A function takes no configuration.
pub use millstream_plugin_macros::transform;
pub use outcome::Outcome;
pub use output::{Made, NewRecord, Output, Part};
pub use partitioner::Partitioner;
pub use record::Record;
pub use sinks::Sinks;
pub use transform::Transform;

/// What the attributes and the tests of this crate reach, and nobody else should.
#[doc(hidden)]
pub mod batch {
    pub use crate::errors::Errors;
    pub use crate::filter::Verdicts;
    pub use crate::outcome::no_configuration;
    pub use crate::partitioner::Targets;
    pub use crate::transform::Rewritten;
}
