//! openraft's log store over [`Wal`].

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_core::mutation::{Mutation, is_on};
use millstream_storage::disk::Disk;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use tokio::sync::watch;

use super::room::Room;
use super::wal::{Contents, Record, Wal};
use super::worker::Worker;
use crate::error::StoreError;
use crate::types::{Entry, LogId, StorageError, Types, Vote};

/// The log and the vote.
pub struct LogStore<D: Disk> {
    wal: Worker<Wal<D>>,
    room: Room,
    contents: Shared,
    /// The last entry in the snapshot that is on the disk; none where nobody takes snapshots.
    covered: Option<watch::Receiver<Option<LogId>>>,
}

/// Reads the log, all of which is in memory.
#[derive(Debug, Clone)]
pub struct LogReader(Shared);

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Contents>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("no panic while held")
    }

    fn entries(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        let contents = self.lock();
        let entries = contents.entries.range(range);
        entries.map(|(_, stored)| stored.entry.clone()).collect()
    }

    /// The first entries of a range, bounded in bytes.
    fn some_entries(&self, start: u64, end: u64) -> Vec<Entry> {
        let contents = self.lock();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for stored in contents.entries.range(start..end).map(|(_, stored)| stored) {
            bytes += stored.bytes;
            if bytes > PAYLOAD_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(stored.entry.clone());
        }
        entries
    }
}

impl<D: Disk> LogStore<D> {
    pub(crate) fn new(
        wal: Worker<Wal<D>>,
        room: Room,
        contents: Contents,
        covered: Option<watch::Receiver<Option<LogId>>>,
    ) -> Self {
        Self {
            wal,
            room,
            contents: Shared(Arc::new(Mutex::new(contents))),
            covered,
        }
    }

    /// Who writes the file.
    pub fn worker(&self) -> Worker<Wal<D>> {
        self.wal.clone()
    }

    async fn write(
        &self,
        work: impl Fn(&mut Wal<D>) -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> Result<(), StoreError> {
        self.room.write(&self.wal, work).await
    }

    async fn append_entries(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let records: Arc<[_]> = entries.iter().map(Record::entry).collect();
        let sizes: Vec<_> = records.iter().map(Record::len).collect();
        self.write(move |wal| wal.append(&records)).await?;
        let mut contents = self.contents.lock();
        for (entry, bytes) in entries.into_iter().zip(sizes) {
            let pushed = contents.push(entry, bytes);
            pushed.expect("openraft appends to the end of the log, or after what it purged");
        }
        Ok(())
    }

    /// Waits until the purged entries are in a snapshot on the disk. openraft purges a log as soon as it has a
    /// snapshot from the leader in hand, while another task still writes it: a crash in between would leave neither.
    async fn wait_covered(&mut self, upto: LogId) -> Result<(), StoreError> {
        let Some(covered) = &mut self.covered else {
            return Ok(());
        };
        let is_covered = covered.wait_for(|covered| *covered >= Some(upto)).await;
        is_covered.map(drop).map_err(|_| StoreError::Closed)
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.0.entries(range))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        Ok(self.0.some_entries(start, end))
    }
}

impl<D: Disk> RaftLogReader<Types> for LogStore<D> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.contents.entries(range))
    }
}

impl<D: Disk> RaftLogStorage<Types> for LogStore<D> {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let contents = self.contents.lock();
        Ok(LogState {
            last_purged_log_id: contents.purged,
            last_log_id: contents.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(self.contents.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        if is_on(Mutation::ForgetVote) {
            self.contents.lock().vote = Some(*vote);
            return Ok(());
        }
        let record = Record::vote(vote);
        self.write(move |wal| wal.append(std::slice::from_ref(&record)))
            .await
            .map_err(|error| StorageIOError::write_vote(AnyError::new(&error)))?;
        self.contents.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.contents.lock().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(committed) = committed else {
            return Ok(());
        };
        let record = Record::committed(&committed);
        self.write(move |wal| wal.append_lazily(&record))
            .await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        self.contents.lock().committed = Some(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let contents = self.contents.lock();
        // openraft applies what this names, so it must be there.
        let is_there = |committed: &LogId| {
            let stored = contents.entries.get(&committed.index);
            stored.is_some_and(|stored| stored.entry.log_id == *committed)
                || Some(*committed) <= contents.purged
        };
        Ok(contents.committed.filter(is_there))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        match self.append_entries(entries).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let failure = StorageIOError::write_logs(AnyError::new(&error));
                callback.log_io_completed(Err(io::Error::other(error)));
                Err(failure.into())
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let record = Record::truncate(log_id.index);
        self.write(move |wal| wal.append(std::slice::from_ref(&record)))
            .await
            .map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        drop(self.contents.lock().entries.split_off(&log_id.index));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purged = async {
            self.wait_covered(log_id).await?;
            let mut contents = self.contents.lock().clone();
            contents.purge(log_id);
            let written = Arc::new(contents.clone());
            self.write(move |wal| wal.rewrite(&written)).await?;
            Ok(contents)
        };
        let purged: Result<_, StoreError> = purged.await;
        let contents = purged.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        *self.contents.lock() = contents;
        Ok(())
    }
}

/// Most bytes of entries in one request, unless a single entry is larger: a request has to get through in one
/// heartbeat, or openraft gives it up.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
