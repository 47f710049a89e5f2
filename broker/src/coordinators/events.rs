//! What happens at coordinators, counted.
//!
//! No group and no transactional id is named: there may be any number of them.

use millstream_core::group::{self, Groups};
use millstream_core::transaction::{Outcome, Transactions};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::machine::Machine;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To a group.
    Group(group::Event),
    /// A producer, or who took its transactional id, ended a transaction.
    Decided(Outcome),
    /// A transaction was aborted since its time was over.
    TimedOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    event: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kept {
    kind: &'static str,
}

/// How often each happened since the broker started.
#[derive(Debug)]
pub struct Events {
    rebalances: Family<Protocol, Counter>,
    members: Family<What, Counter>,
    transactions: Family<Ended, Counter>,
    fenced_producers: Counter,
    loaded: Family<Kept, Counter>,
    given_up: Family<Kept, Counter>,
}

impl Events {
    /// Counters that the registry knows; all of them are there from the beginning.
    pub fn registered(registry: &mut Registry) -> Self {
        let events = Self {
            rebalances: Family::default(),
            members: Family::default(),
            transactions: Family::default(),
            fenced_producers: Counter::default(),
            loaded: Family::default(),
            given_up: Family::default(),
        };
        registry.register(
            "group_rebalances",
            "Times that it was decided who of a group has which partitions, by the group's protocol",
            events.rebalances.clone(),
        );
        registry.register(
            "group_member_events",
            "Members of groups that came, left, were silent for too long or lost their place",
            events.members.clone(),
        );
        registry.register(
            "transactions",
            "Transactions that were decided, by how",
            events.transactions.clone(),
        );
        registry.register(
            "fenced_producers",
            "Requests of producers that were refused since another one has their transactional id",
            events.fenced_producers.clone(),
        );
        registry.register(
            "coordinator_loaded",
            "Groups and transactional ids that were read as this broker began to coordinate them",
            events.loaded.clone(),
        );
        registry.register(
            "coordinator_given_up",
            "Groups and transactional ids that another broker coordinates since",
            events.given_up.clone(),
        );
        for protocol in [CLASSIC, CONSUMER] {
            events.rebalances.get_or_create(&Protocol { protocol }).inc_by(0);
        }
        for event in [JOINED, LEFT, EXPIRED, FENCED] {
            events.members.get_or_create(&What { event }).inc_by(0);
        }
        for kind in [<Groups as Machine>::WHAT, <Transactions as Machine>::WHAT] {
            events.loaded(kind, 0);
            events.given_up(kind, 0);
        }
        for outcome in [COMMITTED, ABORTED, TIMED_OUT] {
            events.transactions.get_or_create(&Ended { outcome }).inc_by(0);
        }
        events
    }

    /// Counts what happened.
    pub fn count(&self, happened: &[Event]) {
        for event in happened {
            match event {
                Event::Group(event) => self.count_of_group(*event),
                Event::Decided(Outcome::Commit) => self.ended(COMMITTED),
                Event::Decided(Outcome::Abort) => self.ended(ABORTED),
                Event::TimedOut => self.ended(TIMED_OUT),
            }
        }
    }

    fn count_of_group(&self, event: group::Event) {
        let rebalanced = |protocol| self.rebalances.get_or_create(&Protocol { protocol }).inc();
        let member = |event| self.members.get_or_create(&What { event }).inc();
        match event {
            group::Event::ClassicRebalance => rebalanced(CLASSIC),
            group::Event::ConsumerRebalance => rebalanced(CONSUMER),
            group::Event::Joined => member(JOINED),
            group::Event::Left => member(LEFT),
            group::Event::Expired => member(EXPIRED),
            group::Event::Fenced => member(FENCED),
        };
    }

    fn ended(&self, outcome: &'static str) {
        self.transactions.get_or_create(&Ended { outcome }).inc();
    }

    /// Counts a producer that is refused since another one has its transactional id.
    pub fn fenced_producer(&self) {
        self.fenced_producers.inc();
    }

    /// Counts what a coordinator read as it began; `kind` is what it keeps.
    pub fn loaded(&self, kind: &'static str, count: usize) {
        self.loaded.get_or_create(&Kept { kind }).inc_by(count as u64);
    }

    /// Counts what a coordinator gave up.
    pub fn given_up(&self, kind: &'static str, count: usize) {
        self.given_up.get_or_create(&Kept { kind }).inc_by(count as u64);
    }
}

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";
const JOINED: &str = "joined";
const LEFT: &str = "left";
const EXPIRED: &str = "expired";
const FENCED: &str = "fenced";
const COMMITTED: &str = "committed";
const ABORTED: &str = "aborted";
const TIMED_OUT: &str = "timed-out";
