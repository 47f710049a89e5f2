//! Plugins of every kind of good and bad behaviour, written as WebAssembly text.

#![allow(clippy::unwrap_used)]

mod answers;
mod cache;
mod compiling;
mod guests;
mod limits;
mod pool;
