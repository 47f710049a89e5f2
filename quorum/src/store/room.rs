//! A disk that is full: nothing is lost by waiting until there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::worker::Worker;
use crate::error::StoreError;

/// Whether a node's files wait for room on their disk. Clones are the same node's.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    writes: AtomicUsize,
    is_over: AtomicBool,
}

impl Room {
    /// Whether a write waits.
    pub fn is_awaited(&self) -> bool {
        self.0.writes.load(Ordering::Relaxed) > 0
    }

    /// Nothing waits from now on: what finds the disk full fails.
    pub fn give_up(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Has a file written, and again while its disk is full. Nobody reads meanwhile what was written by half: `work`
    /// writes it anew, in the same place.
    pub async fn write<S: Send + 'static, T: Send + 'static>(
        &self,
        worker: &Worker<S>,
        work: impl Fn(&mut S) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut waiting = None;
        loop {
            let done = worker.run(work.clone()).await.unwrap_or(Err(StoreError::Closed));
            match done {
                Err(error) if error.is_disk_full() && !self.0.is_over.load(Ordering::Relaxed) => {
                    waiting.get_or_insert_with(|| {
                        tracing::error!(%error, "the quorum's files wait for room on their disk");
                        Wait::begin(self.clone())
                    });
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                done => {
                    if waiting.is_some() && done.is_ok() {
                        tracing::info!("the quorum's files have room again");
                    }
                    return done;
                }
            }
        }
    }
}

/// A write that waits, for as long as this is held.
struct Wait(Room);

impl Wait {
    fn begin(room: Room) -> Self {
        room.0.writes.fetch_add(1, Ordering::Relaxed);
        Self(room)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.0.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a full disk is tried.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
