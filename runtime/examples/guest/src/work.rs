//! What is done with each record, natively and in the guest alike. Loops are written so that both compilers use vectors.

/// Whether a value contains a text.
#[inline]
pub fn keep(value: &[u8]) -> bool {
    find(value).is_some()
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

/// The value with the text made unreadable.
#[inline]
pub fn rewrite(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(value);
    if let Some(place) = find(value) {
        out[start + place..start + place + TEXT.len()].copy_from_slice(b"\"**\"");
    }
}

/// Where the text is; blocks without its first byte are passed over.
#[inline]
fn find(value: &[u8]) -> Option<usize> {
    for (number, block) in value.chunks(16).enumerate() {
        if block.iter().fold(false, |any, byte| any | (*byte == TEXT[0])) {
            let from = number * 16;
            let rest = &value[from..value.len().min(from + 16 + TEXT.len() - 1)];
            if let Some(place) = rest.windows(TEXT.len()).position(|part| part == TEXT) {
                return Some(from + place);
            }
        }
    }
    None
}

const TEXT: &[u8; 4] = b"\"UA\"";
