//! Coordinators: they drive the state machines of `millstream-core` with the log, the clock and the disk.

#![allow(
    clippy::needless_update,
    reason = "messages get fields with new versions: a coordinator that asks others names those that it decides on"
)]

mod clock;
mod events;
pub mod group;
mod groups;
pub(crate) mod machine;
pub mod markers;
pub mod places;
pub mod producer_ids;
mod replay;
pub mod shard;
#[cfg(test)]
mod tests;
pub mod transaction;
mod transactions;
mod write_error;

pub use events::Events;
pub use group::GroupCoordinator;
pub use producer_ids::ProducerIds;
pub use transaction::TransactionCoordinator;
