//! Changing the codec of a batch, when a topic asks for another than its producers use (`compression.type`).

use bytes::Bytes;

use super::checksum::crc32c;
use super::compression::compress;
use super::header::{ATTRIBUTES_AT, CRC_AT};
use super::{BatchError, BatchView, Compression, HEADER_BYTES, LOG_OVERHEAD_BYTES, Scratch};

/// The same batch with its records compressed by `codec`; nothing else changes but length and checksum.
///
/// `limit` bounds the decompressed bytes.
///
/// # Errors
/// Damaged compressed data, too much of it, a codec that is not built in.
pub fn recompress(
    batch: &BatchView<'_>,
    codec: Compression,
    scratch: &mut Scratch,
    limit: usize,
) -> Result<Bytes, BatchError> {
    let mut header = *batch.header();
    let data = batch.data(scratch, limit)?;
    let mut bytes = vec![0; HEADER_BYTES];
    compress(codec, data, &mut bytes)?;
    let length = i32::try_from(bytes.len() - LOG_OVERHEAD_BYTES);
    header.batch_length = length.map_err(|_| BatchError::TooLarge {
        bytes: bytes.len(),
        limit: i32::MAX as usize,
    })?;
    header.attributes = header.attributes.with_compression(codec);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    Ok(bytes.into())
}
