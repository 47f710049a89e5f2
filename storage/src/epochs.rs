//! Where each leader epoch begins (KIP-101), kept in Kafka's `leader-epoch-checkpoint`.

use millstream_core::ids::{LeaderEpoch, Offset};

/// Epochs with their first offsets, both ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(i32, i64)>,
    /// The file lacks something.
    pub dirty: bool,
}

impl LeaderEpochs {
    /// Notes that a batch of `epoch` lies at `offset`.
    pub fn assign(&mut self, epoch: i32, offset: i64) {
        if epoch >= 0 && self.entries.last().is_none_or(|(last, _)| epoch > *last) {
            // An epoch without records leaves no trace.
            while self.entries.last().is_some_and(|(_, start)| *start >= offset) {
                self.entries.pop();
            }
            self.entries.push((epoch, offset));
            self.dirty = true;
        }
    }

    /// Where `epoch` ended: the largest epoch known up to it, and the first offset after that one.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: i64) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|(known, _)| *known <= epoch.0);
        let next = self.entries.get(after);
        match after.checked_sub(1).map(|at| self.entries[at].0) {
            Some(floor) if next.is_some() || floor == epoch.0 => Some((
                LeaderEpoch(floor),
                Offset(next.map_or(log_end, |(_, start)| *start)),
            )),
            Some(_) => None,
            None => next
                .filter(|_| epoch != LeaderEpoch::UNKNOWN)
                .map(|(_, start)| (epoch, Offset(*start))),
        }
    }

    /// The epoch that `offset` was or would be written in: the last that begins no later.
    pub fn at(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|at| self.entries[at].0)
    }

    /// Largest epoch with a record.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Forgets what begins at `end` or later.
    pub fn truncate_to(&mut self, end: i64) {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < end);
        self.dirty |= before != self.entries.len();
    }

    /// Forgets epochs that end before `start`.
    pub fn advance_to(&mut self, start: i64) {
        let gone = self
            .entries
            .iter()
            .skip(1)
            .take_while(|(_, first)| *first <= start)
            .count();
        self.dirty |= gone > 0;
        self.entries.drain(..gone);
        if let Some(first) = self.entries.first_mut()
            && first.1 < start
        {
            first.1 = start;
            self.dirty = true;
        }
    }

    /// The content of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text
    }

    /// Reads the file's content; none if it is not what [`LeaderEpochs::to_text`] or Kafka writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = Self::default();
        for line in lines {
            let (epoch, start) = line.split_once(' ')?;
            epochs.assign(epoch.parse().ok()?, start.parse().ok()?);
        }
        epochs.dirty = false;
        (epochs.entries.len() == count).then_some(epochs)
    }
}

/// Name of the file.
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
