//! The Millstream broker: everything that touches sockets, files and clocks.
//!
//! Decisions are made in `millstream-core`; here they are driven and carried out. One record's way in and out:
//!
//! - [`listener`] accepts connections, [`connection`] cuts them into frames,
//! - [`handlers`] holds one file per Kafka API and translates to and from Kafka's types,
//! - [`ingest`] checks a produced batch and runs the topic's plugins over it,
//! - [`partitions`] owns the logs: append, read, group commit,
//! - [`plugins`] keeps components and runs them, on the way in and for views on the way out.
//!
//! Beside it: [`topics`] is what runs now, as the cluster's image says; [`controller`] is the only place that changes
//! the image; [`coordinators`] keeps consumer groups and producer ids; [`fetch_sessions`] remembers what clients fetch;
//! [`http`] is the admin interface; [`broker_configs`] are settings that change while brokers run; [`housekeeping`] does
//! what is due from time to time. [`context`] ties them together and owns nothing.

pub mod broker_configs;
pub mod connection;
pub mod context;
pub mod controller;
pub mod coordinators;
pub mod fetch_sessions;
pub mod handlers;
pub mod housekeeping;
pub mod http;
pub mod identity;
pub mod ingest;
pub mod lanes;
pub mod listener;
pub mod metrics;
pub mod partitions;
pub mod peer;
pub mod plugins;
pub mod replication;
pub mod settings;
mod start;
pub mod topics;
pub mod workers;

pub use settings::Settings;
pub use start::{Broker, StartError};
