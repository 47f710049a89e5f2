//! A whole cluster in one thread: the real decisions, log and quorum under a seeded clock, network and disk.
//!
//! Real are `core::cluster`, `core::replica`, `core::transaction`, `core::group`, `storage` on its simulated disk, and the
//! quorum: openraft with its store. What the broker does around them (roles, streams, registration, heartbeats,
//! coordinators, workers) is done here again, synchronously, in `node`, `replica` and `transactions`, with the same
//! messages. The clock is tokio's, paused; every random number comes from the seed.
//!
//! A seed makes a cluster of three to five nodes, clients, and faults for some seconds; then all is healed, and within
//! half a simulated minute all has to be well. Who lives in the cluster is its [`Population`]. [`run`] tells which rule was
//! broken first, if any.
//!
//! # Not simulated
//! Plugins, throttles, and static members of groups; a clock that drifts inside of openraft (brokers' own clocks
//! do); bits that rot on a disk, which storage has its own simulation for.

use std::cell::RefCell;

use millstream_core::mutation::Mutation;

pub use layout::Population;

mod bus;
mod client;
mod disk;
mod faults;
mod judge;
mod layout;
mod message;
mod network;
mod node;
mod replica;
mod requests;
mod trace;
mod transactions;
mod world;

/// What became of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Who lived in the cluster.
    pub population: Population,
    /// The first rule that was broken.
    pub broken: Option<String>,
    /// What went wrong by intention, with the time in milliseconds.
    pub faults: Vec<String>,
    /// Two runs with the same one were the same, line by line.
    pub fingerprint: (u64, u64),
    /// How many records were acknowledged.
    pub acked: usize,
    /// How many transactions were committed.
    pub commits: u64,
    /// How long it took, in simulated milliseconds.
    pub simulated_ms: u64,
}

/// Runs one seed of a population. `shows` prints all that happens.
pub fn run(seed: u64, population: Population, mutation: Option<Mutation>, shows: bool) -> Report {
    switch(mutation);
    millstream_quorum::seed_thread(Some(seed));
    take_panic();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.build().expect("a runtime without I/O");
    let (report, world) = runtime.block_on(async {
        let mut world = world::World::new(seed, population, trace::Trace::new(shows));
        world.live().await;
        let report = Report {
            seed,
            population,
            broken: world.judge.broken.clone(),
            faults: world.trace.faults.clone(),
            fingerprint: world.trace.fingerprint(),
            acked: world.judge.acked(),
            commits: world.judge.ledger.commits(),
            simulated_ms: world.bus.now_ms(),
        };
        (report, world)
    });
    drop(world);
    drop(runtime);
    switch(None);
    report
}

fn switch(mutation: Option<Mutation>) {
    #[cfg(feature = "mutations")]
    millstream_core::mutation::switch_on(mutation);
    #[cfg(not(feature = "mutations"))]
    assert_eq!(mutation, None, "built without the feature `mutations`");
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets panics of tasks count as broken rules; to be called once.
pub fn watch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANIC.with_borrow_mut(|known| {
            known.get_or_insert_with(|| panic.to_string());
        });
    }));
}

fn take_panic() -> Option<String> {
    PANIC.take()
}
