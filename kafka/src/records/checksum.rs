//! CRC-32C (Castagnoli), the checksum of batches.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `bytes`.
///
/// `crc-fast` folds with carry-less multiplication: 85 GB/s against 20 of the crate `crc32c`, which uses the
/// processor's CRC instruction, and ahead of it from 40 bytes on.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C of two runs of bytes, as if they were one.
pub(super) fn crc32c_of_both(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_3720_hold() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_of_both(b"1234", b"56789"), 0xe306_9283);
    }
}
