//! What a client is told once: where brokers are, how long to wait, how much to hold.

use std::time::Duration;

/// Settings of a [`Client`](crate::Client).
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Addresses to begin with, `host:port`. One that answers is enough.
    pub bootstrap: Vec<String>,
    /// Name that brokers see in their logs.
    pub client_id: String,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// Age at which cached metadata is asked for again.
    pub metadata_age_max: Duration,
    /// Requests of one connection that may wait for their answer at a time.
    pub in_flight_max: usize,
    /// Largest answer that is accepted, in bytes; a larger one ends the connection.
    pub response_bytes_max: usize,
    /// Pause before a call is tried again.
    pub retry_backoff: Duration,
    /// How long a call is tried again before its error is given to the caller.
    pub retry_timeout: Duration,
}

impl ClientConfig {
    /// Settings for a comma-separated list of addresses.
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap
                .split(',')
                .map(str::trim)
                .filter(|a| !a.is_empty())
                .map(str::to_owned)
                .collect(),
            client_id: "millstream".to_owned(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(30),
            metadata_age_max: Duration::from_secs(300),
            in_flight_max: 64,
            response_bytes_max: 128 << 20,
            retry_backoff: Duration::from_millis(100),
            retry_timeout: Duration::from_secs(30),
        }
    }
}
