//! Threads that serve connections, each with a poller of its own.
//!
//! A runtime with several workers has one poller, and whichever worker holds it serves what comes while the others
//! sleep: with few busy connections, one thread does all the work. A lane is a runtime with one worker. A connection
//! stays on its lane for life, as one of Kafka's stays with its network thread; work that takes long leaves it for a
//! blocking thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// The lanes. Whatever still runs on them is cut off when they are dropped.
#[derive(Debug)]
pub struct Lanes(Vec<Lane>);

#[derive(Debug)]
struct Lane {
    /// Gone only while it is being dropped.
    runtime: Option<Runtime>,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a lane; given back when dropped.
#[derive(Debug)]
pub struct Berth {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

impl Lanes {
    /// Starts `threads` lanes; for 0, one for each processor.
    ///
    /// # Errors
    /// The system refuses a thread or a poller.
    pub fn start(threads: usize) -> io::Result<Self> {
        let processors = || available_parallelism().map_or(1, usize::from);
        let count = if threads == 0 { processors() } else { threads };
        (0..count).map(Lane::start).collect::<io::Result<_>>().map(Self)
    }

    /// A place on the lane that has the fewest connections.
    pub fn berth(&self) -> Berth {
        let connections_of = |lane: &&Lane| lane.connections.load(Ordering::Relaxed);
        let lane = self.0.iter().min_by_key(connections_of).expect("there is a lane");
        let runtime = lane
            .runtime
            .as_ref()
            .expect("lanes are there until they are dropped");
        lane.connections.fetch_add(1, Ordering::Relaxed);
        Berth {
            handle: runtime.handle().clone(),
            connections: lane.connections.clone(),
        }
    }
}

impl Lane {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("network-{number}"))
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            connections: Arc::default(),
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it could block a thread that others need.
            runtime.shutdown_background();
        }
    }
}

impl Berth {
    /// Where the connection's tasks are to be spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_and_places_given_back() {
        let lanes = Lanes::start(2).unwrap();
        let taken = |lanes: &Lanes| -> Vec<usize> {
            lanes
                .0
                .iter()
                .map(|lane| lane.connections.load(Ordering::Relaxed))
                .collect()
        };
        let mut berths: Vec<Berth> = (0..4).map(|_| lanes.berth()).collect();
        assert_eq!(taken(&lanes), [2, 2]);
        let kept = berths.remove(1);
        drop(berths);
        assert_eq!(taken(&lanes).iter().sum::<usize>(), 1);
        let next = lanes.berth();
        assert_eq!(taken(&lanes), [1, 1]);
        drop((kept, next));
        assert_eq!(taken(&lanes), [0, 0]);
    }
}
