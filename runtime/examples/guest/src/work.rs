//! What is done with each record, natively and in the guest alike.

/// Whether a value contains a text.
#[inline]
pub fn keep(value: &[u8]) -> bool {
    value.windows(4).any(|part| part == b"\"UA\"")
}

/// A partition by the hash (FNV-1a) of the first bytes.
#[inline]
pub fn route(value: &[u8], partitions: u32) -> u32 {
    let key = &value[..value.len().min(16)];
    let hash = key.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    hash % partitions
}

/// The value in capital letters.
#[inline]
pub fn rewrite(value: &[u8], out: &mut Vec<u8>) {
    out.extend(value.iter().map(u8::to_ascii_uppercase));
}
