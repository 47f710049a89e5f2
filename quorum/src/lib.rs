//! The metadata quorum of Millstream: openraft with a log store over the same disk as the log.
//!
//! A few brokers vote on one log of cluster commands; every broker follows it and holds the image that it leads to.
//! [`Quorum`] is all that a broker sees. It knows no socket: requests of other nodes are bytes given to
//! [`Quorum::handle`], and its own go out through a [`Transport`]. It knows no real disk either: its store is written
//! through [`Disk`], so the simulator crashes it at every write.
//!
//! # What is deliberately absent
//! * A vote before the vote. openraft 0.9 has none, so a voter that comes back from the other side of a partition with
//!   a higher term costs the others one election. Voters that hear from a leader refuse it their vote, so it cannot
//!   win before it has caught up.
//! * A leader's own doubt. One that is cut off calls itself leader until it hears of a higher term. Nothing that it
//!   decides is committed meanwhile; [`QuorumStatus::since_quorum_ack_ms`] tells that nobody answers, and
//!   [`Quorum::ensure_linearizable`] asks.
//!
//! [`Disk`]: millstream_storage::disk::Disk

mod config;
mod error;
mod message;
mod network;
mod patience;
mod quorum;
mod runtime;
mod status;
mod store;
mod transport;
mod types;

pub use config::QuorumConfig;
pub use error::{MemberError, QuorumError, StoreError, SubmitError};
pub use message::REQUEST_BYTES_MAX;
pub use quorum::{COMMAND_BYTES_MAX, Quorum};
pub use runtime::{SeededRuntime, ThreadRandom, seed_thread};
pub use status::{Leadership, Member, QuorumState, QuorumStatus};
pub use transport::Transport;
pub use types::{Applied, Types};

#[cfg(test)]
mod tests;
