//! A piece of a log file on its way to a socket.

use std::io;
use std::sync::Arc;

use millstream_core::ids::Offset;
use millstream_kafka::records::{BatchHeader, HEADER_BYTES};
use millstream_storage::Slice;
use millstream_storage::disk::RealFile;

/// Consecutive whole record batches in one segment file.
#[derive(Debug, Clone)]
pub struct FileSlice {
    /// The segment file.
    pub file: Arc<RealFile>,
    /// Where the slice begins, in bytes.
    pub position: u64,
    /// How long it is, in bytes.
    pub len: usize,
}

impl From<Slice<RealFile>> for FileSlice {
    fn from(slice: Slice<RealFile>) -> Self {
        let Slice { file, position, len } = slice;
        Self { file, position, len }
    }
}

impl FileSlice {
    /// Sees to it that the slice is in the page cache, without blocking the caller's thread.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn load(&self) -> io::Result<()> {
        if self.is_cached()? {
            return Ok(());
        }
        let slice = self.clone();
        tokio::task::spawn_blocking(move || slice.touch())
            .await
            .map_err(io::Error::other)?
    }

    /// Reads the slice into memory.
    ///
    /// # Errors
    /// The disk cannot be read, or the file is shorter than the slice.
    pub async fn read(&self) -> io::Result<Vec<u8>> {
        self.read_behind(Vec::new()).await
    }

    /// Reads the slice into memory, behind what `bytes` holds already.
    ///
    /// # Errors
    /// As [`FileSlice::read`].
    pub async fn read_behind(&self, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        if self.is_cached()? {
            self.append_to(&mut bytes)?;
            return Ok(bytes);
        }
        let slice = self.clone();
        let read = move || slice.append_to(&mut bytes).map(|()| bytes);
        tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }

    /// Reads the slice into memory on this thread.
    ///
    /// # Errors
    /// The disk cannot be read, or the file is shorter than the slice.
    pub fn read_blocking(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes)?;
        Ok(bytes)
    }

    /// The offset behind the last batch. Blocks.
    ///
    /// # Errors
    /// As [`FileSlice::read_blocking`], or the slice does not hold whole batches.
    pub fn next_offset(&self) -> io::Result<Offset> {
        let mut next = None;
        let mut rest = self.clone();
        while rest.len > 0 {
            let chunk = FileSlice {
                len: rest.len.min(SCAN_BYTES),
                ..rest.clone()
            };
            let bytes = chunk.read_blocking()?;
            let mut at = 0;
            while let Ok(header) = BatchHeader::parse(bytes.get(at..).unwrap_or_default()) {
                next = Some(Offset(header.next_offset()));
                at += header.total_bytes();
            }
            if at == 0 || at > rest.len {
                return Err(io::Error::new(io::ErrorKind::InvalidData, NO_BATCHES));
            }
            rest.position += at as u64;
            rest.len -= at;
        }
        next.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NO_BATCHES))
    }

    /// The header of the first batch. Blocks.
    ///
    /// # Errors
    /// As [`FileSlice::next_offset`].
    pub fn first_header(&self) -> io::Result<BatchHeader> {
        let front = FileSlice {
            len: self.len.min(HEADER_BYTES),
            ..self.clone()
        };
        BatchHeader::parse(&front.read_blocking()?).map_err(io::Error::other)
    }

    fn append_to(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.reserve_exact(self.len);
        let (first, end) = (bytes.len(), bytes.len() + self.len);
        while bytes.len() < end {
            let before = bytes.len();
            let position = self.position + (before - first) as u64;
            rustix::io::pread(
                self.file.as_ref(),
                rustix::buffer::spare_capacity(bytes),
                position,
            )?;
            if bytes.len() == before {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "log file ends before its slice",
                ));
            }
        }
        bytes.truncate(end);
        Ok(())
    }

    /// Whether the slice seems to be in memory: a byte of every so many is asked for without waiting.
    fn is_cached(&self) -> io::Result<bool> {
        let mut positions: Vec<u64> = (self.position..self.position + self.len as u64)
            .step_by(PROBE_INTERVAL_BYTES)
            .collect();
        positions.push(self.position + (self.len as u64).saturating_sub(1));
        for position in positions {
            let mut byte = [0_u8; 1];
            let mut buffers = [io::IoSliceMut::new(&mut byte)];
            let flags = rustix::io::ReadWriteFlags::NOWAIT;
            match rustix::io::preadv2(self.file.as_ref(), &mut buffers, position, flags) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                // A file system that cannot tell: go on and let it block.
                Err(rustix::io::Errno::OPNOTSUPP) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn touch(&self) -> io::Result<()> {
        let mut buffer = vec![0_u8; self.len.min(TOUCH_BYTES)];
        let end = self.position + self.len as u64;
        let mut position = self.position;
        while position < end {
            let want = buffer.len().min((end - position) as usize);
            match rustix::io::pread(self.file.as_ref(), &mut buffer[..want], position)? {
                0 => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "log file ends before its slice",
                    ));
                }
                read => position += read as u64,
            }
        }
        Ok(())
    }
}

/// How far apart the bytes are that are asked for to see whether a slice is in memory.
const PROBE_INTERVAL_BYTES: usize = 128 * 1024;
/// Bytes that are read at once to find the last batch.
const SCAN_BYTES: usize = 64 * 1024;
const NO_BATCHES: &str = "a slice of the log does not hold whole batches";
/// Bytes that are read at once to bring a slice into memory.
const TOUCH_BYTES: usize = 1024 * 1024;
