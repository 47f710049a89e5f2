//! Which of the batches that were fetched are of aborted transactions (KIP-98): the answer names where these begin, and their
//! markers end them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{BatchHeader, EndTransaction};

/// Follows the batches of an answer, in their order.
#[derive(Debug)]
pub struct Aborted {
    /// Producers and first offsets of those that begin later, the next one last.
    ahead: Vec<(i64, i64)>,
    /// Producers whose batches do not count, until their marker.
    producers: BTreeSet<i64>,
}

impl Aborted {
    /// `named` are the producer ids and first offsets that the answer gives, in any order.
    pub fn new(named: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut ahead: Vec<_> = named.into_iter().collect();
        ahead.sort_unstable_by_key(|(_, first)| Reverse(*first));
        Self {
            ahead,
            producers: BTreeSet::new(),
        }
    }

    /// Whether the next batch is of one of them; `payload` is what follows its header. Markers themselves are not.
    pub fn has(&mut self, header: &BatchHeader, payload: &[u8]) -> bool {
        let next = header.next_offset();
        while let Some((producer, _)) = self.ahead.pop_if(|(_, first)| *first < next) {
            self.producers.insert(producer);
        }
        if !header.attributes.is_control() {
            return header.attributes.is_transactional() && self.producers.contains(&header.producer_id);
        }
        if EndTransaction::of(header, payload).is_some_and(|end| !end.is_commit) {
            self.producers.remove(&header.producer_id);
        }
        false
    }
}
