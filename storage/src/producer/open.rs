//! Transactions that are open.

use std::collections::BTreeSet;

use millstream_core::ids::ProducerId;

/// By their first offsets; those of records that a partitioner spread are found by their producer, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Open {
    first_offsets: BTreeSet<i64>,
    /// A producer, and an id that was derived from it.
    spread: BTreeSet<(i64, i64)>,
}

impl Open {
    /// One begins at that offset.
    #[inline]
    pub fn begin(&mut self, producer_id: i64, first_offset: i64) {
        self.first_offsets.insert(first_offset);
        let id = ProducerId(producer_id);
        if id.is_derived() {
            self.spread.insert((id.origin().0, id.0));
        }
    }

    /// The one that began at that offset ends.
    #[inline]
    pub fn end(&mut self, producer_id: i64, first_offset: i64) {
        self.first_offsets.remove(&first_offset);
        let id = ProducerId(producer_id);
        if id.is_derived() {
            self.spread.remove(&(id.origin().0, id.0));
        }
    }

    /// The first offset of the first one.
    pub fn first(&self) -> Option<i64> {
        self.first_offsets.first().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.first_offsets.len()
    }

    /// The ids that were derived from a producer's and have one open.
    pub fn spread_of(&self, producer_id: i64) -> impl Iterator<Item = i64> {
        let all = (producer_id, i64::MIN)..=(producer_id, i64::MAX);
        self.spread.range(all).map(|(_, id)| *id)
    }
}
