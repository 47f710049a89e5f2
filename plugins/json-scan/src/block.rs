//! Looks at 16 bytes of a string at once. One bit per byte, the lowest for the first.

/// Bytes looked at in one step.
pub(crate) const WIDTH: usize = 16;

/// What 16 bytes hold.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// Quotes, backslashes and control characters: what ends the plain part of a string.
    pub special: u32,
    /// Bytes outside ASCII.
    pub high: u32,
}

/// A bit for each byte that is no decimal digit.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
pub(crate) fn no_digits(bytes: &[u8; WIDTH]) -> u32 {
    use core::arch::wasm32::{i8x16_bitmask, i8x16_sub, u8x16_gt, u8x16_splat, v128_load};
    // SAFETY: the reference covers 16 readable bytes, and the load needs no alignment.
    let v = unsafe { v128_load(bytes.as_ptr().cast()) };
    i8x16_bitmask(u8x16_gt(i8x16_sub(v, u8x16_splat(b'0')), u8x16_splat(9))).into()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn no_digits(bytes: &[u8; WIDTH]) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8, _mm_sub_epi8,
    };
    // SAFETY: every x86-64 processor has SSE2; the reference covers 16 readable bytes.
    unsafe {
        let v = _mm_sub_epi8(_mm_loadu_si128(bytes.as_ptr().cast()), _mm_set1_epi8(b'0' as i8));
        let digits = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(9)), v);
        !_mm_movemask_epi8(digits) as u32 & 0xffff
    }
}

#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
pub(crate) fn no_digits(bytes: &[u8; WIDTH]) -> u32 {
    bytes.iter().enumerate().fold(0, |bits, (bit, byte)| {
        bits | u32::from(!byte.is_ascii_digit()) << bit
    })
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(always)]
pub(crate) fn classify(bytes: &[u8; WIDTH]) -> Found {
    use core::arch::wasm32::{i8x16_bitmask, u8x16_eq, u8x16_le, u8x16_splat, v128_load, v128_or};
    // SAFETY: the reference covers 16 readable bytes, and the load needs no alignment.
    let v = unsafe { v128_load(bytes.as_ptr().cast()) };
    let quote = u8x16_eq(v, u8x16_splat(b'"'));
    let backslash = u8x16_eq(v, u8x16_splat(b'\\'));
    let control = u8x16_le(v, u8x16_splat(0x1f));
    let special = v128_or(v128_or(quote, backslash), control);
    Found {
        special: i8x16_bitmask(special).into(),
        high: i8x16_bitmask(v).into(),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn classify(bytes: &[u8; WIDTH]) -> Found {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: every x86-64 processor has SSE2; the reference covers 16 readable bytes.
    unsafe {
        let v = _mm_loadu_si128(bytes.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
        let special = _mm_or_si128(_mm_or_si128(quote, backslash), control);
        Found {
            special: _mm_movemask_epi8(special) as u32,
            high: _mm_movemask_epi8(v) as u32,
        }
    }
}

#[cfg(not(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
pub(crate) fn classify(bytes: &[u8; WIDTH]) -> Found {
    let mut found = Found { special: 0, high: 0 };
    for (bit, &byte) in bytes.iter().enumerate() {
        found.special |= u32::from(byte == b'"' || byte == b'\\' || byte < 0x20) << bit;
        found.high |= u32::from(byte >= 0x80) << bit;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_classified_at_every_place() {
        for place in 0..WIDTH {
            for byte in 0..=255u8 {
                let mut bytes = [b'x'; WIDTH];
                bytes[place] = byte;
                let found = classify(&bytes);
                let special = byte == b'"' || byte == b'\\' || byte < 0x20;
                assert_eq!(
                    found.special,
                    u32::from(special) << place,
                    "byte {byte} at {place}"
                );
                assert_eq!(
                    found.high,
                    u32::from(byte >= 0x80) << place,
                    "byte {byte} at {place}"
                );
            }
        }
    }
}
