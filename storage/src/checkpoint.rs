//! How far a partition is known to be on disk, and where its log begins.
//!
//! Kafka keeps these in files of the whole data directory. Here each partition has its own: it is written when that
//! partition changes, and a damaged one concerns no other. It also says where in which segment the known part ends,
//! so that a log that was closed in good order is opened without reading it.

use std::io;
use std::path::Path;

use crate::disk::{Disk, read_file, replace_file};

/// The known part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// All records before this offset are on disk.
    pub recovery_point: i64,
    /// First offset of the log; records before it were deleted.
    pub log_start: i64,
    /// Base offset of the segment in which the recovery point lies.
    pub segment: i64,
    /// Where in that segment, in bytes.
    pub position: u64,
}

impl Checkpoint {
    /// Reads the checkpoint of a partition directory; none if it has none or it is damaged.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn read<D: Disk>(disk: &D, dir: &Path) -> io::Result<Option<Self>> {
        let bytes = read_file(disk, &dir.join(CHECKPOINT))?;
        Ok(bytes.and_then(|bytes| Self::parse(std::str::from_utf8(&bytes).ok()?)))
    }

    /// Replaces the checkpoint of a partition directory, durably.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn write<D: Disk>(&self, disk: &D, dir: &Path) -> io::Result<()> {
        let body = self.body();
        let text = format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()));
        replace_file(disk, &dir.join(CHECKPOINT), text.as_bytes())
    }

    fn body(&self) -> String {
        let Self {
            recovery_point,
            log_start,
            segment,
            position,
        } = self;
        format!(
            "0\nrecovery-point {recovery_point}\nlog-start {log_start}\nsegment {segment}\nposition {position}\n"
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, crc) = text.split_at_checked(text.rfind("crc32c ")?)?;
        let crc = u32::from_str_radix(crc.strip_prefix("crc32c ")?.trim_end(), 16).ok()?;
        if crc != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != "0" {
            return None;
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.trim_start().parse::<i64>().ok();
        Some(Self {
            recovery_point: field("recovery-point")?,
            log_start: field("log-start")?,
            segment: field("segment")?,
            position: u64::try_from(field("position")?).ok()?,
        })
    }
}

/// Name of the file.
pub(crate) const CHECKPOINT: &str = "millstream-checkpoint";
