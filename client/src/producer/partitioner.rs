//! Which partition a record without a key goes to: it sticks to one for a batch (KIP-794).

use std::hash::{BuildHasher, RandomState};

/// Keeps records without a key on one partition until a batch is full, then moves on.
#[derive(Debug)]
pub(super) struct Sticky {
    at: u32,
    bytes: usize,
}

impl Sticky {
    /// Starts anywhere, so that many short-lived producers do not all favour partition 0.
    pub fn new(topic: &str) -> Self {
        Self {
            at: RandomState::new().hash_one(topic) as u32,
            bytes: 0,
        }
    }

    /// Partition of the next record.
    pub fn next(&mut self, record_bytes: usize, batch_bytes: usize, partitions: i32) -> i32 {
        if self.bytes > 0 && self.bytes + record_bytes > batch_bytes {
            self.at = self.at.wrapping_add(1);
            self.bytes = 0;
        }
        self.bytes += record_bytes;
        (self.at % partitions.max(1) as u32) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_key_stay_together_for_a_batch() {
        let mut sticky = Sticky { at: 2, bytes: 0 };
        let chosen: Vec<i32> = (0..6).map(|_| sticky.next(40, 100, 3)).collect();
        assert_eq!(chosen, [2, 2, 0, 0, 1, 1]);
    }
}
