//! What happens to transforms on this broker, counted: what is given to it and taken from it, what goes wrong, and how long
//! records take.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream_core::cluster::Image;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What became of a partition of a transform here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// This broker runs it from now on.
    Given,
    /// It runs with another release, worker or topic than before.
    Renewed,
    /// This broker runs it no longer.
    Taken,
}

/// What was the trouble when a partition of a transform stopped, or began anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A record that the plugin failed on, or that its sink did not take, and the policy is to fail.
    Record,
    /// The plugin cannot be started.
    Plugin,
    /// Records of the source are damaged, or gone before they were read.
    Source,
    /// A sink refused records: the one to blame is looked for.
    Sink,
    /// Another broker took over, or the transaction was ended.
    Fenced,
    /// The cluster refused something for good.
    Refused,
    /// The cluster could not do something in time.
    Cluster,
}

impl Failure {
    const ALL: [Self; 7] = [
        Self::Record,
        Self::Plugin,
        Self::Source,
        Self::Sink,
        Self::Fenced,
        Self::Refused,
        Self::Cluster,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Plugin => "plugin",
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Fenced => "fenced",
            Self::Refused => "refused",
            Self::Cluster => "cluster",
        }
    }
}

impl Assignment {
    const ALL: [Self; 3] = [Self::Given, Self::Renewed, Self::Taken];

    fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Renewed => "renewed",
            Self::Taken => "taken",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    event: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    transform: String,
}

/// How often each happened since the broker started.
#[derive(Debug)]
pub struct Events {
    assignments: Family<What, Counter>,
    take_overs: Counter,
    failures: Family<Kind, Counter>,
    latencies: Family<Of, Histogram, fn() -> Histogram>,
    /// The transforms that have a latency.
    known: Mutex<BTreeSet<String>>,
}

impl Events {
    /// Counters that the registry knows; but for the latencies all are there from the beginning.
    pub fn registered(registry: &mut Registry) -> Self {
        let events = Self {
            assignments: Family::default(),
            take_overs: Counter::default(),
            failures: Family::default(),
            latencies: Family::new_with_constructor(latencies),
            known: Mutex::default(),
        };
        registry.register(
            "transform_assignments",
            "Partitions of transforms that this broker was given to run, has anew or was relieved of",
            events.assignments.clone(),
        );
        registry.register(
            "transform_take_overs",
            "Times that a partition of a transform was taken over, and whoever had it fenced",
            events.take_overs.clone(),
        );
        registry.register(
            "transform_failures",
            "Times that a partition of a transform stopped or began anew, by what the trouble was",
            events.failures.clone(),
        );
        registry.register_with_unit(
            "transform_latency",
            "Time from a record's being read to its output being committed, for the oldest record of each commit",
            Unit::Seconds,
            events.latencies.clone(),
        );
        for event in Assignment::ALL.map(Assignment::name) {
            events.assignments.get_or_create(&What { event }).inc_by(0);
        }
        for kind in Failure::ALL.map(Failure::name) {
            events.failures.get_or_create(&Kind { kind }).inc_by(0);
        }
        events
    }

    /// Counts a partition that came, stays otherwise, or went.
    pub fn assigned(&self, assignment: Assignment) {
        let event = assignment.name();
        self.assignments.get_or_create(&What { event }).inc();
    }

    /// Counts a partition that was taken over.
    pub fn took_over(&self) {
        self.take_overs.inc();
    }

    /// Counts a partition that stopped or begins anew.
    pub fn failed(&self, failure: Failure) {
        let kind = failure.name();
        self.failures.get_or_create(&Kind { kind }).inc();
    }

    /// Counts a commit, whose oldest record took so long.
    pub fn committed(&self, transform: &str, took: Duration) {
        let of = Of {
            transform: transform.to_owned(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(transform) {
            known.insert(of.transform.clone());
        }
        self.latencies.get_or_create(&of).observe(took.as_secs_f64());
    }

    /// Forgets the latencies of transforms that are gone.
    pub fn image_changed(&self, image: &Image) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|transform| {
            let is_there = image.transform(transform).is_some();
            if !is_there {
                let transform = transform.clone();
                self.latencies.remove(&Of { transform });
            }
            is_there
        });
    }
}

/// From half a millisecond to about two minutes.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
}
