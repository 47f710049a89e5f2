//! Transactions: what the log says of them is what its batches say.

use std::collections::BTreeMap;

use millstream_core::ids::Offset;
use millstream_kafka::records::EndTransaction;
use millstream_storage::EndMarker;
use millstream_storage::disk::{Disk, replace_file};

use super::{Known, PRODUCERS, World, dir};

/// What the batches say of transactions.
#[derive(Default)]
struct Told {
    /// First offset of the open ones, by producer.
    open: BTreeMap<i64, i64>,
    /// First offset and marker of those that ended.
    ended: Vec<(i64, i64)>,
    /// Producer, first offset and marker, in the order of the markers.
    aborted: Vec<(i64, i64, i64)>,
}

impl Told {
    fn by(batches: &[Known]) -> Self {
        let mut told = Self::default();
        for batch in batches.iter().filter(|batch| batch.producer >= PRODUCERS) {
            match batch.marker {
                None => drop(told.open.entry(batch.producer).or_insert(batch.base)),
                Some(marker) => {
                    let Some(first) = told.open.remove(&batch.producer) else {
                        continue;
                    };
                    told.ended.push((first, batch.base));
                    if !marker.is_commit {
                        told.aborted.push((batch.producer, first, batch.base));
                    }
                }
            }
        }
        told
    }
}

impl World {
    /// Sometimes the end of a producer's transaction, mostly where one is open; sometimes in another epoch.
    pub fn build_marker(&mut self, producer: i64) -> Option<Known> {
        let is_open = Told::by(&self.batches).open.contains_key(&producer);
        let odds = if is_open { 3 } else { 12 };
        if producer < PRODUCERS || self.random.below(odds) > 0 {
            return None;
        }
        let end = EndTransaction {
            is_commit: self.random.below(2) == 0,
            coordinator_epoch: 3,
        };
        let producer_epoch = self.epoch_of(producer) + i16::from(self.random.below(3) == 0);
        let marker = EndMarker {
            producer_id: producer,
            producer_epoch,
            is_commit: end.is_commit,
            coordinator_epoch: end.coordinator_epoch,
            bumps_epoch: false,
        };
        Some(self.known(end.to_batch(producer, producer_epoch, self.now_ms), Some(marker)))
    }

    pub fn check_transactions(&mut self) {
        let (start, end) = (self.start, self.end());
        let told = Told::by(&self.batches);
        for producer in PRODUCERS..2 * PRODUCERS {
            let epoch = self.epoch_of(producer);
            let is_open = told.open.contains_key(&producer);
            assert_eq!(
                self.log.open_transaction(producer, epoch),
                is_open,
                "of {producer}"
            );
        }
        for state in self.log.producers() {
            let first = told.open.get(&state.id).copied();
            assert_eq!(state.transaction_start.map(|first| first.0), first);
            assert_eq!(state.epoch, self.epoch_of(state.id));
        }
        self.high = self.high.min(end).max(start);
        self.high += self.random.below((end - self.high) as u64 + 1) as i64;
        let undecided = told.ended.iter().filter(|(_, marker)| *marker >= self.high);
        let unstable = undecided
            .map(|(first, _)| *first)
            .chain(told.open.values().copied());
        let expected = unstable
            .min()
            .map_or(self.high, |first| first.max(start).min(self.high));
        assert_eq!(self.log.last_stable_offset(Offset(self.high)), Offset(expected));
        for _ in 0..4 {
            let from = start + self.random.below((end - start) as u64 + 1) as i64;
            let to = from + self.random.below((end - from) as u64 + 1) as i64;
            let overlaps = told
                .aborted
                .iter()
                .filter(|(_, first, marker)| *marker >= from && *first < to);
            let expected: Vec<_> = overlaps.map(|(producer, first, _)| (*producer, *first)).collect();
            let found = self.log.aborted_transactions(Offset(from), Offset(to)).unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|it| (it.producer_id, it.first_offset.0))
                .collect();
            assert_eq!(found, expected, "{from}..{to}");
        }
    }

    /// Now and then one of the files is lost or is not what was written. The log makes it again.
    pub fn damage_an_index_of_transactions(&mut self) {
        if self.random.below(6) > 0 {
            return;
        }
        let mut files = self.disk.list(dir()).unwrap();
        files.retain(|name| name.ends_with(".txnindex"));
        if files.is_empty() {
            return;
        }
        let file = dir().join(&files[self.random.below(files.len() as u64) as usize]);
        match self.random.below(3) {
            0 => self.disk.remove(&file).unwrap(),
            1 => replace_file(&self.disk, &file, &[0; 34]).unwrap(),
            _ => replace_file(&self.disk, &file, &[0; 7]).unwrap(),
        }
    }
}
