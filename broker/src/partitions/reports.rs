//! What partitions have to tell the cluster: other in-sync replicas, and disks that failed.
//!
//! A partition leaves a note here and goes on; whoever speaks to the controller collects them, many at a time.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::Partition;

/// The notes. A lone broker's partitions propose nothing; what they say of their disk stays here unread.
#[derive(Debug, Default)]
pub struct Reports {
    state: Mutex<Notes>,
    more: Notify,
}

/// Notes that were collected.
#[derive(Debug, Default)]
pub struct Notes {
    /// Partitions that propose other in-sync replicas.
    pub proposing: Vec<Arc<Partition>>,
    /// Partitions whose disk failed or is full.
    pub failed: Vec<Arc<Partition>>,
}

impl Reports {
    /// A partition has other in-sync replicas to propose. It has one proposal at a time, so this is bounded.
    pub(super) fn proposes(&self, partition: Arc<Partition>) {
        let mut notes = self.state.lock().expect("no panic among the notes");
        notes.proposing.push(partition);
        drop(notes);
        self.more.notify_one();
    }

    /// A partition's disk failed. It is noted once.
    pub(super) fn failed(&self, partition: Arc<Partition>) {
        let mut notes = self.state.lock().expect("no panic among the notes");
        if notes.failed.iter().any(|known| Arc::ptr_eq(known, &partition)) {
            return;
        }
        notes.failed.push(partition);
        drop(notes);
        self.more.notify_one();
    }

    /// Waits until there are notes, and takes them. For one reader.
    pub async fn next(&self) -> Notes {
        loop {
            let notes = self.take();
            if !notes.proposing.is_empty() || !notes.failed.is_empty() {
                return notes;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Notes {
        std::mem::take(&mut *self.state.lock().expect("no panic among the notes"))
    }
}
