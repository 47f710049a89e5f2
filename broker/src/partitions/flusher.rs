//! Group commit: makes appended batches durable, many partitions and many batches at a time.
//!
//! One thread takes all partitions that became dirty since its last round, syncs their files together and tells each
//! partition how far it is durable now. While a round is under way the next one gathers, so that the slower the disk
//! is, the more appends share a sync. How files are synced (one by one, or the whole file system) is decided by
//! `storage::sync_many`.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use millstream_storage::disk::{Disk, RealDisk};

use super::Partition;
use crate::metrics::Metrics;

/// The queue of dirty partitions, and the thread that works through it.
#[derive(Debug)]
pub struct Flusher {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    dirty: Vec<Arc<Partition>>,
    closed: bool,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(disk: RealDisk, metrics: Arc<Metrics>) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Queue::default());
        let of_thread = queue.clone();
        let thread = std::thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || {
                let _vital = Vital;
                let mut round = Vec::new();
                while of_thread.take(&mut round) {
                    let started = Instant::now();
                    sync(&disk, &round);
                    metrics.syncs.inc();
                    metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
                    round.clear();
                }
            })?;
        Ok(Arc::new(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Queues a partition that has become dirty. The partition sees to it that it is queued once.
    pub(super) fn enqueue(&self, partition: Arc<Partition>) {
        let mut state = self.queue.state.lock().expect("no panic in the queue");
        state.dirty.push(partition);
        if state.dirty.len() == 1 {
            self.queue.filled.notify_one();
        }
    }

    /// Syncs what is queued and ends the thread.
    pub fn stop(&self) {
        self.queue.state.lock().expect("no panic in the queue").closed = true;
        self.queue.filled.notify_one();
        if let Some(thread) = self.thread.lock().expect("no panic while joining").take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Waits for dirty partitions; false when there will be no more.
    fn take(&self, round: &mut Vec<Arc<Partition>>) -> bool {
        let state = self.state.lock().expect("no panic in the queue");
        let mut state = self
            .filled
            .wait_while(state, |state| state.dirty.is_empty() && !state.closed)
            .expect("no panic in the queue");
        std::mem::swap(&mut state.dirty, round);
        !round.is_empty()
    }
}

/// Ends the process with the thread: without group commit every producer would wait in vain, and nobody would know why.
/// What was acknowledged is on the disk, and the next start goes on from there.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("group commit is broken; the broker ends at once");
            std::process::abort();
        }
    }
}

/// Syncs the files of all `partitions` and tells each the outcome.
pub(super) fn sync(disk: &RealDisk, partitions: &[Arc<Partition>]) {
    let mut handles = Vec::with_capacity(partitions.len());
    let mut files = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let handle = partition.begin_sync();
        files.extend(handle.files.iter().cloned());
        handles.push(handle);
    }
    match disk.sync_many(&files) {
        Ok(()) => {
            for (partition, handle) in partitions.iter().zip(handles) {
                partition.synced(handle);
            }
        }
        Err(error) => {
            // Which pages the system dropped is not known: none of these logs may acknowledge anything any more.
            tracing::error!(%error, partitions = partitions.len(), "sync of the log failed; the partitions take no more writes");
            for partition in partitions {
                partition.poison();
            }
        }
    }
}
