//! CRC-32C (Castagnoli), the checksum of batches.

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// The checksum of two runs of bytes from the checksum of each; `second_bytes` is the length of the second.
pub(super) fn combine(first: u32, second: u32, second_bytes: usize) -> u32 {
    ::crc32c::crc32c_combine(first, second, second_bytes)
}
