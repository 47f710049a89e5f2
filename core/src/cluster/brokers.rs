//! Brokers: how they become known, are fenced and let in again, are emptied and forgotten.
//!
//! A broker is named by its id, one life of it by its epoch, its disk by `storage`. What it may have lost decides what
//! its registration does to the partitions that it holds: a new life may have lost what was not synced, so the broker is
//! treated as if it had been fenced; another disk holds nothing, so the broker is in sync nowhere.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::BrokerId;

/// A broker of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<String>,
    /// `HOST:PORT` that other brokers reach it at; none for a lone broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Drawn anew at every start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub incarnation: u64,
    /// Names its disk: kept in the data directory, so that another one says that the disk was lost. Nil says nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: Uuid,
    /// SHA-256 of its certificate, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether it serves nobody, and may lead nothing and be in sync nowhere else.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fenced: bool,
    /// Whether it is being emptied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: bool,
    /// The lowest and highest feature level that its binary can run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub features: (u16, u16),
    /// The image's version at its registration; Kafka's broker epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub epoch: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
