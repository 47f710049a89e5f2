//! LZ4 frames (LZ4 Frame Format 1.6), as Kafka's clients write them: independent blocks of 64 KiB, no content
//! checksum. Read are also linked blocks, larger ones, and all checksums.
//!
//! The frame is taken apart here and not by a streaming reader: blocks then decompress straight to their place,
//! and a frame without its end mark is an error.

use std::cell::RefCell;

use lz4_flex::block::{CompressTable, DecompressError, compress_into_with_table, get_maximum_output_size};
use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::{BatchError, Compression, Output, damaged, too_large};

pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    thread_local! {
        static TABLE: RefCell<CompressTable> = RefCell::new(CompressTable::large());
    }
    out.extend_from_slice(&FRAME_HEADER);
    TABLE.with_borrow_mut(|table| {
        for block in data.chunks(BLOCK_BYTES) {
            compress_block(block, table, out)?;
        }
        out.extend_from_slice(&END_MARK.to_le_bytes());
        Ok(())
    })
}

fn compress_block(block: &[u8], table: &mut CompressTable, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let size_at = out.len();
    let block_at = size_at + 4;
    out.resize(block_at + get_maximum_output_size(block.len()), 0);
    let bytes = compress_into_with_table(block, &mut out[block_at..], table)
        .map_err(|error| damaged(Compression::Lz4, error))?;
    let size = if bytes < block.len() {
        out.truncate(block_at + bytes);
        bytes as u32
    } else {
        out.truncate(block_at);
        out.extend_from_slice(block);
        block.len() as u32 | STORED
    };
    out[size_at..block_at].copy_from_slice(&size.to_le_bytes());
    Ok(())
}

pub(super) fn decompress(mut data: &[u8], out: &mut Output<'_>) -> Result<(), BatchError> {
    if data.is_empty() {
        return Err(cut_short());
    }
    // Frames may follow one another.
    while !data.is_empty() {
        let frame = Frame::parse(&mut data)?;
        let start = out.filled();
        while frame.block(&mut data, start, out)? {}
        frame.check_content(&mut data, start, out)?;
    }
    Ok(())
}

struct Frame {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
}

impl Frame {
    fn parse(data: &mut &[u8]) -> Result<Self, BatchError> {
        if take_u32(data)? != MAGIC {
            return Err(damaged(Compression::Lz4, "no frame starts here"));
        }
        let head = *data;
        let [flags, block_size] = *take::<2>(data)?;
        if flags >> 6 != 1 || flags & 0x02 != 0 || block_size & 0x8f != 0 {
            return Err(damaged(Compression::Lz4, "the frame is of an unknown version"));
        }
        if flags & 0x01 != 0 {
            return Err(damaged(Compression::Lz4, "the frame needs a dictionary"));
        }
        let block_bytes_max = match block_size >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(damaged(Compression::Lz4, "the frame's block size is unknown")),
        };
        let content_bytes = match flags & 0x08 {
            0 => None,
            _ => Some(u64::from_le_bytes(*take(data)?)),
        };
        let described = &head[..head.len() - data.len()];
        let [check] = *take::<1>(data)?;
        if check != (XxHash32::oneshot(0, described) >> 8) as u8 {
            return Err(damaged(
                Compression::Lz4,
                "the checksum of the frame header is wrong",
            ));
        }
        Ok(Self {
            independent: flags & 0x20 != 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            content_bytes,
            block_bytes_max,
        })
    }

    /// Decompresses the next block; false at the end mark.
    fn block(&self, data: &mut &[u8], start: usize, out: &mut Output<'_>) -> Result<bool, BatchError> {
        let size = take_u32(data)?;
        if size == END_MARK {
            return Ok(false);
        }
        let bytes = (size & !STORED) as usize;
        let (block, rest) = data.split_at_checked(bytes).ok_or_else(cut_short)?;
        *data = rest;
        if self.block_checksums && take_u32(data)? != XxHash32::oneshot(0, block) {
            return Err(damaged(Compression::Lz4, "the checksum of a block is wrong"));
        }
        if bytes > self.block_bytes_max {
            return Err(damaged(Compression::Lz4, "a block is larger than the frame says"));
        }
        if size & STORED != 0 {
            out.extend(block)?;
        } else {
            self.decompress_block(block, start, out)?;
        }
        Ok(true)
    }

    fn decompress_block(&self, block: &[u8], start: usize, out: &mut Output<'_>) -> Result<(), BatchError> {
        // One byte of a match length stands for 255 bytes at most.
        let wanted = self.block_bytes_max.min(block.len() * 255);
        let limit = out.limit();
        let (done, space) = out.split(wanted);
        let fits = space.len() == wanted;
        let written = if self.independent {
            decompress_into(block, space)
        } else {
            let window = done.len().saturating_sub(WINDOW_BYTES).max(start);
            decompress_into_with_dict(block, space, &done[window..])
        };
        match written {
            Ok(written) => out.advance(written),
            Err(DecompressError::OutputTooSmall { .. }) if !fits => return Err(too_large(limit)),
            Err(error) => return Err(damaged(Compression::Lz4, error)),
        }
        Ok(())
    }

    fn check_content(&self, data: &mut &[u8], start: usize, out: &mut Output<'_>) -> Result<(), BatchError> {
        let content = &out.split(0).0[start..];
        if self
            .content_bytes
            .is_some_and(|bytes| bytes != content.len() as u64)
        {
            return Err(damaged(
                Compression::Lz4,
                "the content is not as long as the frame says",
            ));
        }
        if self.content_checksum && take_u32(data)? != XxHash32::oneshot(0, content) {
            return Err(damaged(Compression::Lz4, "the checksum of the content is wrong"));
        }
        Ok(())
    }
}

fn take<'a, const N: usize>(data: &mut &'a [u8]) -> Result<&'a [u8; N], BatchError> {
    let (taken, rest) = data.split_first_chunk().ok_or_else(cut_short)?;
    *data = rest;
    Ok(taken)
}

fn take_u32(data: &mut &[u8]) -> Result<u32, BatchError> {
    take(data).map(|bytes| u32::from_le_bytes(*bytes))
}

fn cut_short() -> BatchError {
    damaged(Compression::Lz4, "the data is cut short")
}

const MAGIC: u32 = 0x184D_2204;
/// Magic, version 1 with independent blocks, blocks of 64 KiB, and the header checksum that follows from these.
const FRAME_HEADER: [u8; 7] = [0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82];
const END_MARK: u32 = 0;
/// Flag of a block that is not compressed.
const STORED: u32 = 1 << 31;
const BLOCK_BYTES: usize = 64 << 10;
/// How far a linked block reaches back.
const WINDOW_BYTES: usize = 64 << 10;
