//! Who is told when a partition has more: a queue per stream to another broker, of the partitions on it that have news.
//!
//! A partition is in a queue at most once, however much happens to it before the stream gets there; what it has then is
//! looked up then. So a queue is no longer than the partitions on its stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use millstream_core::ids::BrokerId;
use tokio::sync::Notify;

/// Names a partition on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// The partitions of one stream that have news.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    slots: Mutex<VecDeque<Slot>>,
    more: Notify,
}

/// A partition's line to a stream.
#[derive(Debug)]
pub(super) struct Feed {
    /// Who is at the other end.
    pub broker: BrokerId,
    slot: Slot,
    queue: Arc<ReadyQueue>,
    queued: bool,
}

impl ReadyQueue {
    /// Puts a slot at the end.
    pub fn push(&self, slot: Slot) {
        self.slots.lock().expect("no panic in the queue").push_back(slot);
        self.more.notify_one();
    }

    /// Takes the next slot.
    pub fn pop(&self) -> Option<Slot> {
        self.slots.lock().expect("no panic in the queue").pop_front()
    }

    /// Waits until there may be a slot. For one reader.
    pub async fn filled(&self) {
        if self.slots.lock().expect("no panic in the queue").is_empty() {
            self.more.notified().await;
        }
    }
}

impl Feed {
    pub fn new(broker: BrokerId, slot: Slot, queue: Arc<ReadyQueue>) -> Self {
        Self {
            broker,
            slot,
            queue,
            queued: false,
        }
    }

    /// Whether it is the line of this slot.
    pub fn is(&self, slot: Slot, queue: &Arc<ReadyQueue>) -> bool {
        self.slot == slot && Arc::ptr_eq(&self.queue, queue)
    }

    /// There are news.
    pub fn tell(&mut self) {
        if !self.queued {
            self.queued = true;
            self.queue.push(self.slot);
        }
    }

    /// The news are being looked at.
    pub fn heard(&mut self) {
        self.queued = false;
    }
}
