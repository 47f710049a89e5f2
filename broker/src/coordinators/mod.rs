//! Coordinators: they drive the state machines of `millstream-core` with the log, the clock and the disk.

pub mod group;
pub mod producer_ids;
mod replay;
pub mod shard;

pub use group::GroupCoordinator;
pub use producer_ids::ProducerIds;
