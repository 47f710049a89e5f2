//! What goes wrong with the disk while the log is at work.

use std::io::ErrorKind::StorageFull;

use millstream_core::ids::Offset;
use millstream_storage::disk::Disk;
use millstream_storage::{AppendError, Log, LogConfig, ReadError};

use super::{World, bytes_of, config, dir};

impl World {
    pub fn fail_sync(&mut self) {
        self.append();
        let handle = self.log.sync_handle();
        self.disk
            .fail_sync_after(self.random.below(handle.files.len() as u64) as u32);
        assert!(self.disk.sync_many(&handle.files).is_err());
        self.log.poison();
        let batch = self.build();
        let refused = self.put(&batch);
        assert!(matches!(refused, Err(AppendError::Poisoned(_))));
        assert!(self.log.close().is_err());
        self.check_all();
        if self.random.below(2) == 0 {
            // Only the process ends: what it finds in memory then may never have reached the disk.
            self.disk.restart();
            self.reopen();
        } else {
            self.crash();
        }
    }

    pub fn fill_disk(&mut self) {
        self.disk.set_free_bytes(self.random.below(3000));
        loop {
            let batch = self.build();
            match self.put(&batch) {
                Ok(_) => self.batches.push(batch),
                Err(AppendError::DiskFull) => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.check_all();
        // What would make room must not need any, if only there is a segment that can go.
        let to = self.start + self.random.below((self.end() - self.start) as u64 + 1) as i64;
        let deleted = self.log.delete_records_before(Offset(to));
        self.start = self.log.log_start_offset().0;
        assert!(self.start == to || self.start < to && deleted.is_err());
        self.acknowledged = self.acknowledged.max(self.log.flushed_offset().0);
        self.check_all();
        self.disk.set_free_bytes(u64::MAX / 2);
        self.append();
    }

    /// Any sync fails, that of a directory, an index or a checkpoint included, or there is no room for any of them;
    /// the log goes on as far as it says that it can. Then the process or the machine starts anew.
    pub fn fail_anywhere(&mut self) {
        self.disk.fail_sync_after(self.random.below(10) as u32);
        if self.random.below(4) == 0 {
            self.disk.set_free_bytes(self.random.below(6000));
        }
        let (mut start, mut is_half_cut) = (self.start, false);
        for _ in 0..=self.random.below(12) {
            // Segments end after a batch or two, but not always.
            let segment_bytes = [5_000, 12_000][self.random.below(2) as usize];
            self.log.set_config(LogConfig {
                segment_bytes,
                ..config()
            });
            match self.random.below(10) {
                0..6 => {
                    let batch = self.build();
                    match self.put(&batch) {
                        Ok(_) => self.batches.push(batch),
                        Err(AppendError::DiskFull | AppendError::Io(_) | AppendError::Poisoned(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                6..8 => {
                    if self.log.sync().is_ok() {
                        self.acknowledged = self.end();
                    }
                }
                8 => drop(self.log.write_checkpoint()),
                9 if self.random.below(2) == 0 && self.start == start => {
                    let to = start + self.random.below((self.end() - start) as u64 + 1) as i64;
                    let Some(cut) = self.cut_at(to) else { continue };
                    self.acknowledged = self.acknowledged.min(cut);
                    let was_poisoned = self.log.is_poisoned();
                    let before = self.log.log_end_offset();
                    if let Err(error) = self.log.truncate_to(Offset(to), self.now_ms) {
                        if was_poisoned || self.log.is_poisoned() {
                            // How much is gone, only the next start tells.
                            is_half_cut = true;
                            break;
                        }
                        // There was no room even to begin.
                        let is_full = matches!(&error, ReadError::Io(error) if error.kind() == StorageFull);
                        assert!(is_full && self.log.log_end_offset() == before, "{error}");
                        continue;
                    }
                    self.batches.retain(|batch| batch.last < cut);
                }
                _ => {
                    let to = start + self.random.below((self.end() - start) as u64 + 1) as i64;
                    let before = self.log.log_start_offset().0;
                    if self.log.delete_records_before(Offset(to)).is_ok() {
                        self.acknowledged = self.acknowledged.max(to);
                        (self.start, start) = (to, to);
                    } else {
                        // It may have been made durable before the fault, or not.
                        assert!((before..=to).contains(&self.log.log_start_offset().0));
                        start = to;
                    }
                }
            }
            self.acknowledged = self.acknowledged.max(self.log.flushed_offset().0);
        }
        self.disk.set_free_bytes(u64::MAX / 2);
        if is_half_cut {
            let _ = self
                .log
                .read(Offset(start), 1000, self.log.log_end_offset(), true);
        } else {
            self.check_readable();
        }
        match self.random.below(2) {
            0 => self.disk.restart(),
            _ => self.disk.crash(),
        }
        let (log, _) = Log::open(self.disk.clone(), dir(), config(), self.now_ms).unwrap();
        let found = log.log_start_offset().0;
        assert!(
            (self.start..=start).contains(&found),
            "{found} is not within {}..={start}",
            self.start
        );
        self.start = found;
        self.log = log;
        self.reopen();
    }

    /// Whatever failed, what is in the log can be read.
    fn check_readable(&self) {
        let mut from = self.log.log_start_offset().0;
        while let Some(slice) = self
            .log
            .read(Offset(from), 1000, self.log.log_end_offset(), true)
            .unwrap()
        {
            from = self.expect_batches(&bytes_of(&slice), from, self.end());
        }
        assert_eq!(from, self.end());
    }
}
