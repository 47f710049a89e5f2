//! Batches that views have computed, kept up to a number of bytes.
//!
//! The key names everything that the result depends on, the stored batch's checksum and leader epoch among it: after a
//! truncation, a deletion or an upgrade the old results are simply not found any more, and make room as others come.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use millstream_kafka::records::BatchHeader;
use uuid::Uuid;

/// The cache. Evicts by the clock algorithm: what was read since the hand came by stays for another round.
#[derive(Debug)]
pub struct ViewCache {
    bytes_max: usize,
    state: Mutex<State>,
}

/// What the result of a view depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Plugins, configurations and policies.
    pub chain: [u8; 32],
    /// The topic that stores the records.
    pub topic: Uuid,
    /// Its partition.
    pub partition: i32,
    /// First offset of the stored batch.
    pub base_offset: i64,
    /// Epoch of the leader that wrote it.
    pub leader_epoch: i32,
    /// Its checksum.
    pub crc: u32,
    /// Its length.
    pub length: i32,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry, foldhash::fast::RandomState>,
    clock: VecDeque<Key>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    batch: Bytes,
    was_read: bool,
}

impl Key {
    /// The key of a stored batch under a chain.
    pub fn new(chain: [u8; 32], topic: Uuid, partition: i32, header: &BatchHeader) -> Self {
        Self {
            chain,
            topic,
            partition,
            base_offset: header.base_offset,
            leader_epoch: header.partition_leader_epoch,
            crc: header.crc,
            length: header.batch_length,
        }
    }
}

impl ViewCache {
    /// A cache that holds `bytes_max` at most; with 0 it holds nothing.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
        }
    }

    /// What was computed for `key`.
    pub fn find(&self, key: &Key) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = state.entries.get_mut(key)?;
        entry.was_read = true;
        Some(entry.batch.clone())
    }

    /// Keeps what was computed, unless it is so large that it would drive out all else. Gives the bytes that the cache
    /// holds then.
    pub fn keep(&self, key: Key, batch: &Bytes) -> usize {
        let size = batch.len() + ENTRY_BYTES;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if size > self.bytes_max / 4 {
            return state.bytes;
        }
        while state.bytes + size > self.bytes_max {
            if !state.evict() {
                break;
            }
        }
        let entry = Entry {
            batch: batch.clone(),
            was_read: false,
        };
        match state.entries.insert(key.clone(), entry) {
            None => state.clock.push_back(key),
            Some(old) => state.bytes -= old.batch.len() + ENTRY_BYTES,
        }
        state.bytes += size;
        state.bytes
    }
}

impl State {
    /// Drops one entry; false if there is none.
    fn evict(&mut self) -> bool {
        while let Some(key) = self.clock.pop_front() {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if std::mem::take(&mut entry.was_read) {
                self.clock.push_back(key);
                continue;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.batch.len() + ENTRY_BYTES;
            }
            return true;
        }
        false
    }
}

/// What an entry takes beside its batch, about.
const ENTRY_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(offset: i64) -> Key {
        Key {
            chain: [0; 32],
            topic: Uuid::nil(),
            partition: 0,
            base_offset: offset,
            leader_epoch: 0,
            crc: 7,
            length: 9,
        }
    }

    #[test]
    fn the_bound_holds_and_what_is_read_stays() {
        let cache = ViewCache::new(10 * (1000 + ENTRY_BYTES));
        let batch = Bytes::from(vec![1; 1000]);
        for offset in 0..100 {
            cache.keep(key(offset), &batch);
            assert!(
                cache.find(&key(0)).is_some(),
                "read all the time, so it stays at {offset}"
            );
            let state = cache.state.lock().unwrap();
            assert!(state.bytes <= cache.bytes_max);
            assert_eq!(state.entries.len(), state.clock.len());
        }
        assert!(cache.find(&key(99)).is_some());
        assert!(cache.find(&key(50)).is_none());
        cache.keep(key(99), &Bytes::from(vec![2; 500]));
        assert_eq!(cache.find(&key(99)).unwrap().len(), 500);
    }

    #[test]
    fn another_batch_at_the_same_offset_is_not_found() {
        let cache = ViewCache::new(1 << 20);
        cache.keep(key(3), &Bytes::from_static(b"old"));
        assert!(cache.find(&Key { crc: 8, ..key(3) }).is_none());
        assert!(
            cache
                .find(&Key {
                    leader_epoch: 1,
                    ..key(3)
                })
                .is_none()
        );
        assert!(
            cache
                .find(&Key {
                    chain: [1; 32],
                    ..key(3)
                })
                .is_none()
        );
    }

    #[test]
    fn a_batch_that_would_drive_out_all_else_is_not_kept() {
        let cache = ViewCache::new(10_000);
        cache.keep(key(0), &Bytes::from(vec![0; 5000]));
        assert!(cache.find(&key(0)).is_none());
        let off = ViewCache::new(0);
        off.keep(key(0), &Bytes::new());
        assert!(off.find(&key(0)).is_none());
    }
}
