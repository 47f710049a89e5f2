//! Plugins at work: where their bytes are stored, compiled once, and run over batches on their way in and out.
//!
//! `millstream-runtime` knows how to run a component and nothing of topics; here is what it is run for.

mod chain;
pub mod view;
