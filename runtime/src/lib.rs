//! Runs plugins: WebAssembly components that judge, route and rewrite records, each within limits.
//!
//! It is handed bytes and hands bytes back. It must not know topics, partitions' logs, sockets or Kafka's protocol; what crosses the
//! boundary is defined by `wit/plugin.wit` alone.
//!
//! The way of a plugin: [`Engine::compile`] makes a [`Plugin`] of a component, [`Plugin::instantiate`] an [`Instance`] that has
//! read its configuration, and [`Instance::filter`], [`Instance::partition`] or [`Instance::transform`] run it over a slice of
//! records that a [`RowsBuilder`] described. A [`Pool`] keeps the instances of one place that a plugin is attached to.
//!
//! A guest is not trusted. It has no import but a log and the names of its sinks; its memory, tables, stack, fuel, output and log are bounded by
//! [`Limits`]; all that it answers is checked. Whatever it does harms only its own instance.
//!
//! Nothing here is async. Compiling takes from milliseconds to seconds, a call at most as long as its fuel lasts: callers with
//! async threads compile on a blocking thread, and hold no lock while a call runs.

mod answers;
mod bindings;
pub mod build;
mod cache;
mod engine;
mod error;
mod instance;
mod limits;
mod log;
mod plugin;
mod pool;
mod rows;
mod state;

pub use answers::{Made, MadeRow, Part, Targets, Transformed, Verdict, Verdicts};
pub use engine::{Engine, EngineConfig};
pub use error::{CallError, CompileError, EngineError, InstantiateError};
pub use instance::{Instance, Usage};
pub use limits::{Limits, LimitsError};
pub use log::{Level, LogSink};
pub use plugin::{Plugin, World};
pub use pool::{Pool, Pooled};
pub use rows::{ROW_BYTES, ROWS_MAX, Row, RowsBuilder};
