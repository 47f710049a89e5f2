//! Coordinators: they drive the state machines of `millstream-core` with the log, the clock and the disk.

pub mod group;
mod groups;
mod machine;
pub mod markers;
pub mod places;
pub mod producer_ids;
mod replay;
pub mod shard;
pub mod transaction;
mod transactions;

pub use group::GroupCoordinator;
pub use producer_ids::ProducerIds;
pub use transaction::TransactionCoordinator;
