//! The codecs of record batches, bounded: none yields more bytes than it was allowed, nor takes memory for them.
//!
//! Each codec reads what Kafka's clients write and writes what all of them read.

mod gzip;
mod lz4;
mod output;
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

use output::Output;

use super::BatchError;

/// A codec of the attributes field, bits 0-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// The records as they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks of 32 KiB in the framing of Java's `snappy-java` ("xerial"); a single raw block is read too.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number.
    ///
    /// # Errors
    /// There is none.
    pub fn from_id(id: u8) -> Result<Self, BatchError> {
        Self::ALL
            .get(usize::from(id))
            .copied()
            .ok_or(BatchError::UnknownCompression(id))
    }

    /// Its number in the attributes field.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec that Kafka's configuration calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Whether this build can read and write it.
    pub fn is_supported(self) -> bool {
        self != Self::Zstd || cfg!(feature = "zstd")
    }
}

/// Appends `data`, compressed at the codec's default level, to `out`.
///
/// # Errors
/// The codec is not built in or fails.
pub fn compress(codec: Compression, data: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    match codec {
        Compression::None => out.extend_from_slice(data),
        Compression::Gzip => gzip::compress(data, out)?,
        Compression::Snappy => snappy::compress(data, out)?,
        Compression::Lz4 => lz4::compress(data, out)?,
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::compress(data, out)?,
        #[cfg(not(feature = "zstd"))]
        Compression::Zstd => return Err(BatchError::UnsupportedCompression("zstd")),
    }
    Ok(())
}

/// The bytes that `data` holds in compressed form, at most `limit` of them.
///
/// # Errors
/// Damaged or truncated data, more than `limit` bytes, a codec that is not built in.
pub fn decompress(codec: Compression, data: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    if codec == Compression::None {
        return if data.len() > limit {
            Err(too_large(limit))
        } else {
            Ok(data.to_vec())
        };
    }
    let mut decompressor = Decompressor::default();
    let filled = decompressor.decompress(codec, data, limit)?.len();
    decompressor.buffer.truncate(filled);
    Ok(decompressor.buffer)
}

/// The working memory of the codecs.
#[derive(Default)]
pub(super) struct Decompressor {
    /// Kept at its largest length, so that it is zeroed only once.
    buffer: Vec<u8>,
    #[cfg(feature = "zstd")]
    zstd: zstd::Decoder,
}

impl Decompressor {
    pub(super) fn decompress(
        &mut self,
        codec: Compression,
        data: &[u8],
        limit: usize,
    ) -> Result<&[u8], BatchError> {
        let mut out = Output::new(&mut self.buffer, limit);
        match codec {
            Compression::None => out.extend(data)?,
            Compression::Gzip => gzip::decompress(data, &mut out)?,
            Compression::Snappy => snappy::decompress(data, &mut out)?,
            Compression::Lz4 => lz4::decompress(data, &mut out)?,
            #[cfg(feature = "zstd")]
            Compression::Zstd => self.zstd.decompress(data, &mut out)?,
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => return Err(BatchError::UnsupportedCompression("zstd")),
        }
        let filled = out.filled();
        Ok(&self.buffer[..filled])
    }

    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

fn too_large(limit: usize) -> BatchError {
    BatchError::DecompressedTooLarge { limit }
}

fn damaged(codec: Compression, reason: impl std::fmt::Display) -> BatchError {
    BatchError::Compressed {
        codec: codec.name(),
        reason: reason.to_string(),
    }
}
