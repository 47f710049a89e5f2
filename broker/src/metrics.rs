//! What the broker counts, in the Prometheus text format at `/metrics`.
//!
//! Counters on the hot path are plain atomics; whatever can be read off the state (sizes, lags) is read when scraped.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use millstream_kafka::ApiKey;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::plugins::Stopwatch;
use crate::{coordinators, workers};

/// Name of an API, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiLabel {
    /// Kafka's name of the API.
    pub api: &'static str,
}

/// On which way of theirs plugins compute records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Way {
    /// Into a topic.
    Ingest,
    /// Out of a view.
    View,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabel {
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    way: Way,
    stage: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// The registry that `/metrics` encodes.
    pub registry: Registry,
    /// Open connections of Kafka clients.
    pub connections: Gauge,
    requests: Family<ApiLabel, Histogram, fn() -> Histogram>,
    bytes_in: Counter,
    bytes_out: Counter,
    /// Records appended by producers.
    pub records_in: Counter,
    /// Syncs of log files, each of a group of appends.
    pub syncs: Counter,
    /// Seconds that a sync took.
    pub sync_seconds: Histogram,
    /// Records that this broker had and an unclean election went on without.
    pub records_lost: Counter,
    /// Partitions that this broker stores.
    pub partitions: Gauge<i64>,
    computed_records: Family<WayLabel, Counter>,
    computing: Family<StageLabel, Counter<f64, AtomicU64>>,
    /// Bytes that the view cache holds.
    pub view_cache_bytes: Gauge<u64, AtomicU64>,
    /// What happens at coordinators.
    pub coordinators: coordinators::Events,
    /// What happens to transforms.
    pub workers: workers::Events,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("millstream");
        let connections = Gauge::default();
        registry.register(
            "connections",
            "Open connections of Kafka clients",
            connections.clone(),
        );
        let requests: Family<ApiLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(latency_histogram);
        registry.register_with_unit(
            "request",
            "Time from a request's last byte to its answer being ready",
            Unit::Seconds,
            requests.clone(),
        );
        let bytes_in = Counter::default();
        registry.register("bytes_in", "Bytes of requests", bytes_in.clone());
        let bytes_out = Counter::default();
        registry.register("bytes_out", "Bytes of responses", bytes_out.clone());
        let records_in = Counter::default();
        registry.register("records_in", "Records appended by producers", records_in.clone());
        let syncs = Counter::default();
        registry.register("log_syncs", "Group commits of log files", syncs.clone());
        let sync_seconds = latency_histogram();
        registry.register_with_unit(
            "log_sync",
            "Duration of a group commit",
            Unit::Seconds,
            sync_seconds.clone(),
        );
        let records_lost = Counter::default();
        registry.register(
            "records_lost",
            "Records that were cut off here because an unclean election went on without them",
            records_lost.clone(),
        );
        let partitions = Gauge::default();
        registry.register(
            "partitions",
            "Partitions that this broker stores",
            partitions.clone(),
        );
        let computed_records = Family::default();
        registry.register(
            "computed_records",
            "Records that met plugins",
            computed_records.clone(),
        );
        let computing = Family::default();
        registry.register_with_unit(
            "computing",
            "Time spent on records that meet plugins, by stage",
            Unit::Seconds,
            computing.clone(),
        );
        let view_cache_bytes = Gauge::default();
        registry.register(
            "view_cache_bytes",
            "Memory of the view cache",
            view_cache_bytes.clone(),
        );
        let coordinators = coordinators::Events::registered(&mut registry);
        let workers = workers::Events::registered(&mut registry);
        Self {
            registry,
            coordinators,
            workers,
            connections,
            requests,
            bytes_in,
            bytes_out,
            records_in,
            syncs,
            sync_seconds,
            records_lost,
            partitions,
            computed_records,
            computing,
            view_cache_bytes,
        }
    }
}

impl Metrics {
    /// Metrics of a new broker.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Counts bytes of a request.
    pub fn bytes_in(&self, bytes: usize) {
        self.bytes_in.inc_by(bytes as u64);
    }

    /// Counts bytes of a response.
    pub fn bytes_out(&self, bytes: usize) {
        self.bytes_out.inc_by(bytes as u64);
    }

    /// Counts a request of an API and the time that its answer took.
    pub fn request(&self, api: ApiKey, took: Duration) {
        self.requests
            .get_or_create(&ApiLabel { api: api.name() })
            .observe(took.as_secs_f64());
    }

    /// Counts records that met plugins, and the time that each stage took.
    pub fn computed(&self, way: Way, watch: &Stopwatch) {
        self.computed_records
            .get_or_create(&WayLabel { way })
            .inc_by(watch.records);
        for (stage, spent) in watch.spent() {
            let stage = stage.name();
            self.computing
                .get_or_create(&StageLabel { way, stage })
                .inc_by(spent.as_secs_f64());
        }
    }
}

#[cfg(test)]
impl Metrics {
    /// The value of a sample, which is named as in the text format; 0 if there is none.
    pub fn sample(&self, sample: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.registry).unwrap();
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        lines.next().map_or(0.0, |value| value.parse().unwrap())
    }
}

fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}
