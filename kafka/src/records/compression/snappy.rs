//! Snappy in the framing of Java's `snappy-java`: a header of 16 bytes, then blocks behind their lengths.
//!
//! Clients that are not written in Java may send a single raw block instead.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{BatchError, Compression, Output, damaged, too_large};

pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION);
    out.extend_from_slice(&VERSION);
    let mut encoder = Encoder::new();
    for block in data.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + max_compress_len(block.len()), 0);
        let bytes = encoder
            .compress(block, &mut out[block_at..])
            .map_err(|error| damaged(Compression::Snappy, error))?;
        out[length_at..block_at].copy_from_slice(&(bytes as u32).to_be_bytes());
        out.truncate(block_at + bytes);
    }
    Ok(())
}

pub(super) fn decompress(data: &[u8], out: &mut Output<'_>) -> Result<(), BatchError> {
    let Some(mut rest) = data.strip_prefix(&MAGIC) else {
        return block(data, out);
    };
    // Two version numbers follow, which no reader looks at.
    rest = rest.get(2 * VERSION.len()..).ok_or_else(cut_short)?;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let (compressed, behind) = behind.split_at_checked(length).ok_or_else(cut_short)?;
        block(compressed, out)?;
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(cut_short()) }
}

fn block(compressed: &[u8], out: &mut Output<'_>) -> Result<(), BatchError> {
    let bytes = decompress_len(compressed).map_err(|error| damaged(Compression::Snappy, error))?;
    if bytes > out.left() {
        return Err(too_large(out.limit()));
    }
    // The length is the sender's word: a copy of three bytes yields 64 at most.
    if bytes > compressed.len().saturating_mul(MAX_RATIO) {
        return Err(damaged(
            Compression::Snappy,
            "the length of a block is more than it can hold",
        ));
    }
    let written = Decoder::new()
        .decompress(compressed, out.space(bytes))
        .map_err(|error| damaged(Compression::Snappy, error))?;
    out.advance(written);
    Ok(())
}

fn cut_short() -> BatchError {
    damaged(Compression::Snappy, "the data is cut short")
}

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: [u8; 4] = 1u32.to_be_bytes();
const BLOCK_BYTES: usize = 32 << 10;
const MAX_RATIO: usize = 22;
