//! The partition log: segments in Kafka's formats, indexes, recovery, retention.
//!
//! [`Log`] owns one partition's directory. It appends validated batches, finds them again, tells which files must be
//! synced for which offset, and puts itself right after a crash. It knows no topic, no client, no clock (`now_ms` is
//! an argument) and no thread; who calls it holds it under one lock and drives group commit from outside through
//! [`Log::sync_handle`] and [`Log::synced`]. All files are reached through [`disk::Disk`], of which there are two:
//! the real one, and [`sim_disk::SimDisk`], that loses, tears and refuses on a seed.

mod aborted;
pub mod checkpoint;
pub mod disk;
mod epochs;
mod error;
mod file_system;
mod index;
pub mod lock;
mod log;
mod metadata;
mod producer;
mod scan;
mod segment;
pub mod sim_disk;

pub use error::{AppendError, OpenError, ReadError};
pub use log::{
    AbortedTransaction, Appended, DELETED_SUFFIX, EndMarker, Log, LogConfig, Recovery, Slice, SyncHandle,
    TimestampOffset,
};
pub use metadata::{read_partition_metadata, write_partition_metadata};
pub use producer::ProducerState;
