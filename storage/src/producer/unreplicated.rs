//! Transactions that ended, but not on enough replicas yet for readers to rely on it.

use std::collections::VecDeque;

/// A transaction from its first batch to its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub first_offset: i64,
    /// Offset of the marker.
    pub marker: i64,
}

/// In the order of their markers. One that began before others that ended before it leaves them nothing to say, so first
/// offsets ascend as well, and the first is the smallest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unreplicated(pub VecDeque<Ended>);

impl Unreplicated {
    /// Notes a transaction that ended; its marker is behind all others.
    pub fn push(&mut self, ended: Ended) {
        while self
            .0
            .pop_back_if(|earlier| earlier.first_offset >= ended.first_offset)
            .is_some()
        {}
        if self.0.len() == UNREPLICATED_MAX
            && let Some(first) = self.0.pop_front()
            && let Some(second) = self.0.front_mut()
        {
            // One of both: what is stable then is told later than need be.
            second.first_offset = first.first_offset;
        }
        self.0.push_back(ended);
    }

    /// The smallest first offset of those whose marker lies at `high` or behind it. The others are forgotten.
    pub fn first_behind(&mut self, high: i64) -> Option<i64> {
        while self.0.pop_front_if(|ended| ended.marker < high).is_some() {}
        self.0.front().map(|ended| ended.first_offset)
    }
}

/// Of one partition. Followers whom nobody asks for what is stable have this many, too.
const UNREPLICATED_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_those_that_count_is_found_and_there_are_never_many() {
        let mut some = Unreplicated::default();
        let mut all = Vec::new();
        let mut high = 0;
        let mut random = crate::sim_disk::Random(7);
        for marker in 1..20_000 {
            let ended = Ended {
                first_offset: (marker - 1 - random.below(300) as i64).max(0),
                marker,
            };
            some.push(ended);
            all.push(ended);
            if random.below(3) == 0 {
                high = (marker - random.below(40) as i64).max(high);
                all.retain(|ended| ended.marker >= high);
                let expected = all.iter().map(|ended| ended.first_offset).min();
                assert_eq!(some.first_behind(high), expected);
            }
        }
        let mut many = Unreplicated::default();
        for first in 0..5_000 {
            many.push(Ended {
                first_offset: first,
                marker: first + 1,
            });
        }
        assert_eq!(many.0.len(), UNREPLICATED_MAX);
        assert_eq!(many.first_behind(4_000), Some(0), "never more than is stable");
        assert_eq!(many.first_behind(4_900), Some(4_899));
        assert_eq!(many.first_behind(5_001), None);
    }
}
