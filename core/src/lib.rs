//! The decisions of a broker as pure state machines.
//!
//! Nothing in this crate does I/O, reads a clock or draws a random number: time, ids and what was read come in as
//! arguments, what is to be done goes out as data. The broker acts on it, and a simulator can do so in its place.

pub mod cluster;
pub mod config;
pub mod fetch_session;
pub mod group;
pub mod ids;
pub mod mutation;
mod record_bytes;
pub mod replica;
pub mod transaction;
pub mod transform;
