//! Transactions in a partition (KIP-98, KIP-360, KIP-890): the markers that end them, how far the log is decided, and
//! what readers of committed records must skip.

use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::{BatchHeader, EndTransaction};

use super::{Appended, Log};
use crate::disk::Disk;
use crate::error::{AppendError, ReadError};
use crate::producer::ProducerState;
use crate::segment::{TXN_INDEX, path};

/// What a coordinator has a partition's leader write at the end of a transaction (Kafka's `WriteTxnMarkers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// Whose transaction.
    pub producer_id: i64,
    /// Its epoch from now on. A higher one than that of the transaction fences the producer that wrote it (KIP-360,
    /// KIP-890).
    pub producer_epoch: i16,
    /// Committed, or else aborted.
    pub is_commit: bool,
    /// Fences coordinators that were replaced.
    pub coordinator_epoch: i32,
    /// Whether every transaction of the producer has an epoch of its own (KIP-890). Then a marker in the very epoch of the
    /// transaction that is open ended the one before, comes again, and is refused (KIP-1228).
    pub bumps_epoch: bool,
}

/// A transaction whose records are to be skipped, from its first one to its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: Offset,
}

impl<D: Disk> Log<D> {
    /// Appends a marker, which ends the producer's transaction if one is open here. Durable as any batch is. Before it, a
    /// marker is appended for each id under which a partitioner has spread records of that transaction here. Gives what
    /// became of the producer's own, which is the last.
    ///
    /// # Errors
    /// The producer or the coordinator has been replaced: nothing is appended then. Or as [`Log::append_as_leader`]; what was
    /// spread may have ended then, and the marker is to be written again.
    pub fn append_marker(
        &mut self,
        marker: EndMarker,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let EndMarker {
            producer_id,
            producer_epoch,
            is_commit,
            coordinator_epoch,
            bumps_epoch,
        } = marker;
        let end = EndTransaction {
            is_commit,
            coordinator_epoch,
        };
        self.writable()?;
        let producer = (producer_id, producer_epoch);
        self.producers.check_marker(producer, &end, bumps_epoch)?;
        let last_epoch = match bumps_epoch {
            true => producer_epoch.saturating_sub(1),
            false => producer_epoch,
        };
        let spread = self.producers.open_spread(producer_id, last_epoch);
        let mut append = |id| {
            let batch = end.to_batch(id, producer_epoch, now_ms);
            let header = BatchHeader::parse(&batch)?;
            self.append_checked(header, &batch, leader_epoch, now_ms)
        };
        for derived in spread {
            append(derived)?;
        }
        append(producer_id)
    }

    /// Where what is not decided yet begins, or else `high`: readers of committed records get what lies before it. `high` is
    /// the high watermark; a transaction whose marker does not lie before it counts as undecided. It must not go back
    /// but by a truncation.
    pub fn last_stable_offset(&mut self, high: Offset) -> Offset {
        let first = self.producers.first_unstable(high.0);
        first.map_or(high, |first| Offset(first.max(self.log_start)).min(high))
    }

    /// Whether there may be an aborted transaction with records or a marker from `from` on. Reads nothing.
    pub fn may_have_aborted(&self, from: Offset) -> bool {
        let first = self.first_segment_with(from);
        let mut segments = self.segments[first..].iter();
        segments.any(|segment| segment.aborted.may_reach(from.0))
    }

    /// The aborted transactions with records or a marker from `from` on and a record before `to`, in the order of their markers:
    /// what a Fetch answer with the records between says beside them. May read from the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let first = self.first_segment_with(from);
        let mut found = Vec::new();
        for segment in &self.segments[first..] {
            let file = path(&self.dir, segment.base, TXN_INDEX);
            if segment
                .aborted
                .collect(&self.disk, &file, (from.0, to.0), &mut found)?
            {
                break;
            }
        }
        let found = found.into_iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: Offset(aborted.first_offset),
        });
        Ok(found.collect())
    }

    fn first_segment_with(&self, offset: Offset) -> usize {
        let later = self.segments.partition_point(|segment| segment.base <= offset.0);
        later.saturating_sub(1)
    }

    /// Number of transactions that are open.
    pub fn open_transactions(&self) -> usize {
        self.producers.open_transactions()
    }

    /// Whether the producer has a transaction open here, in this very epoch. If not, a leader asks the coordinator before it
    /// takes a batch that would begin one (KIP-890).
    pub fn open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.producers.has_open_transaction(producer_id, epoch)
    }

    /// Whether anything is known of the producer.
    pub fn knows_producer(&self, producer_id: i64) -> bool {
        self.producers.knows(producer_id)
    }

    /// What is known of the producers, by id (Kafka's `DescribeProducers`).
    pub fn producers(&self) -> Vec<ProducerState> {
        let mut states: Vec<_> = self.producers.states().collect();
        states.sort_unstable_by_key(|state| state.id);
        states
    }
}
