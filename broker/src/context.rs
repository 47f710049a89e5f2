//! What every part of a running broker can reach: handles to the owners of state, nothing else.

use std::sync::Arc;

use millstream_core::ids::BrokerId;
use tokio::sync::{Semaphore, watch};

use crate::connection::MEMORY_UNIT_BYTES;
use crate::controller::{Controller, Lease};
use crate::coordinators::{GroupCoordinator, ProducerIds, TransactionCoordinator};
use crate::fetch_sessions::FetchSessions;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::plugins::Plugins;
use crate::replication::Replication;
use crate::settings::Settings;
use crate::topics::Topics;
use crate::workers::Workers;

/// The owners of a broker's state.
pub struct Context {
    /// The settings the broker was started with.
    pub settings: Settings,
    /// This broker.
    pub node: BrokerId,
    /// Id of the cluster that this broker is, or is of.
    pub cluster_id: String,
    /// Where clients are told to connect to.
    pub advertised: (String, u16),
    /// Topics and their partitions, as the image says.
    pub topics: Arc<Topics>,
    /// Decides on changes of the cluster's image.
    pub controller: Controller,
    /// The ways to other brokers; none for a lone broker.
    pub peers: Option<Arc<Peers>>,
    /// Copies partitions from their leaders, and to their followers.
    pub replication: Arc<Replication>,
    /// Whether the cluster still counts on this broker.
    pub lease: Arc<Lease>,
    /// Plugins at work: their bytes, instances, costs and log lines.
    pub plugins: Arc<Plugins>,
    /// Transactions.
    pub transactions: TransactionCoordinator,
    /// Consumer groups.
    pub groups: GroupCoordinator,
    /// Transforms that this broker runs.
    pub workers: Workers,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// Incremental fetch sessions.
    pub fetch_sessions: FetchSessions,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Grants memory to large requests.
    pub request_memory: Arc<Semaphore>,
    /// All the memory that can be granted, in units.
    pub request_memory_units: u32,
    /// Becomes true when the broker shuts down.
    pub shutdown: watch::Sender<bool>,
}

impl Context {
    /// Host and port that clients are told.
    pub fn advertised(&self) -> (&String, u16) {
        (&self.advertised.0, self.advertised.1)
    }

    /// Units of memory for requests under these settings.
    pub fn memory_units(settings: &Settings) -> u32 {
        (settings.queued_max_request_bytes as u64 / MEMORY_UNIT_BYTES as u64).min(u64::from(u32::MAX / 2))
            as u32
    }
}

/// The time of day, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
