//! Beginning anew at another offset: what a follower does whose leader no longer has what comes next in its log.

use millstream_core::ids::Offset;

use super::Log;
use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::segment::Segment;

impl<D: Disk> Log<D> {
    /// Drops all records and begins anew, empty, at `at`. Durable on return. A crash meanwhile leaves the log as it was,
    /// empty where it began, or begun anew.
    ///
    /// # Errors
    /// The disk failed, or had before; the log is poisoned then.
    pub fn start_over(&mut self, at: Offset, now_ms: i64) -> Result<(), ReadError> {
        if let Some(reason) = self.poisoned {
            return Err(std::io::Error::other(reason).into());
        }
        // Emptied first: a segment of records before a gap would not be taken for the same log's.
        self.truncate_to(Offset(self.log_start), now_ms)?;
        let result = self.begin_anew(at.0.max(0), now_ms);
        if result.is_err() {
            self.poison_because("beginning anew failed");
        }
        result
    }

    fn begin_anew(&mut self, at: i64, now_ms: i64) -> Result<(), ReadError> {
        self.generation += 1;
        self.forget_positions();
        drop(self.new_segment(at, now_ms)?);
        let anew = Checkpoint {
            recovery_point: at,
            log_start: at,
            segment: at,
            position: 0,
        };
        // From here on the new beginning is the one that is found.
        anew.write(&self.disk, &self.dir)?;
        self.checkpointed = anew;
        let others = |segment: &&Segment<D>| segment.base != at;
        for segment in self.segments.iter().filter(others) {
            segment.remove(&self.disk, &self.dir)?;
        }
        self.disk.sync_dir(&self.dir)?;
        self.reload(now_ms).map_err(ReadError::from)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use millstream_core::ids::{LeaderEpoch, Offset};
    use millstream_kafka::records::BatchBuilder;

    use crate::disk::Disk;
    use crate::sim_disk::SimDisk;
    use crate::{Log, LogConfig};

    #[test]
    fn it_is_empty_where_it_begins_anew_and_goes_on_from_there() {
        let (disk, mut log) = with_records(40);
        let mut before = log.sync_handle();
        before.files.clear();
        log.start_over(Offset(1000), NOW).unwrap();
        log.synced(before);
        assert_eq!(offsets(&log), (1000, 1000, 1000));
        assert_eq!((log.latest_leader_epoch(), log.producer_count()), (None, 0));
        append(&mut log, 3, 5);
        log.sync().unwrap();
        disk.crash();
        let log = open(&disk);
        assert_eq!(offsets(&log), (1000, 1003, 1003));
        assert_eq!(log.latest_leader_epoch(), Some(LeaderEpoch(5)));
        assert_eq!(log.segment_count(), 1);
    }

    #[test]
    fn it_can_begin_anew_anywhere() {
        for at in [0, 17, 40, 41] {
            let (disk, mut log) = with_records(40);
            log.start_over(Offset(at), NOW).unwrap();
            log.start_over(Offset(at), NOW).unwrap();
            assert_eq!(offsets(&log), (at, at, at));
            disk.crash();
            assert_eq!(offsets(&open(&disk)), (at, at, at));
        }
    }

    #[test]
    fn a_crash_leaves_the_log_as_it_was_or_empty() {
        for seed in 0..20 {
            for syncs in 0..20 {
                let (disk, mut log) = with_records(40 + seed);
                disk.fail_sync_after(syncs);
                let result = log.start_over(Offset(1000), NOW);
                assert_eq!(result.is_err(), log.is_poisoned());
                drop(log);
                disk.crash();
                let mut log = open(&disk);
                let (start, end, _) = offsets(&log);
                match result {
                    Ok(()) => assert_eq!((start, end), (1000, 1000)),
                    Err(_) => assert!(
                        start == end || (start, end) == (0, 40 + seed as i64),
                        "{start} {end}"
                    ),
                }
                log.start_over(Offset(2000), NOW).unwrap();
                assert_eq!(offsets(&log), (2000, 2000, 2000));
            }
        }
    }

    fn with_records(count: u64) -> (SimDisk, Log<SimDisk>) {
        let disk = SimDisk::new(count, 1 << 30);
        disk.create_dir(Path::new("data")).unwrap();
        let mut log = open(&disk);
        append(&mut log, count, 0);
        log.sync().unwrap();
        log.write_checkpoint().unwrap();
        (disk, log)
    }

    fn open(disk: &SimDisk) -> Log<SimDisk> {
        let config = LogConfig {
            segment_bytes: 700,
            ..LogConfig::default()
        };
        Log::open(disk.clone(), Path::new("data/t-0"), config, NOW)
            .unwrap()
            .0
    }

    fn append(log: &mut Log<SimDisk>, count: u64, epoch: i32) {
        for n in 0..count {
            let mut batch = BatchBuilder::new();
            batch
                .append(NOW, None, Some(format!("record {n}").as_bytes()), &[])
                .unwrap();
            let batch = batch.finish().unwrap();
            log.append_as_leader(&batch, LeaderEpoch(epoch), NOW).unwrap();
        }
    }

    fn offsets(log: &Log<SimDisk>) -> (i64, i64, i64) {
        (
            log.log_start_offset().0,
            log.log_end_offset().0,
            log.flushed_offset().0,
        )
    }

    const NOW: i64 = 1_700_000_000_000;
}
