//! Zigzag variable-length integers (KIP-98, as in Protocol Buffers), read from and written to slices.

/// Reads a 32-bit value at `at`; gives it with the position behind it.
#[inline(always)]
pub(super) fn read_i32(data: &[u8], at: usize) -> Option<(i32, usize)> {
    // Almost every length and delta fits two bytes.
    let first = *data.get(at)?;
    if first < 0x80 {
        return Some((unzigzag32(first.into()), at + 1));
    }
    let second = *data.get(at + 1)?;
    if second < 0x80 {
        let value = u32::from(first & 0x7f) | u32::from(second) << 7;
        return Some((unzigzag32(value), at + 2));
    }
    read_i32_long(data, at, first)
}

#[inline(never)]
fn read_i32_long(data: &[u8], at: usize, first: u8) -> Option<(i32, usize)> {
    let mut value = u32::from(first & 0x7f);
    for (index, byte) in data.get(at + 1..)?.iter().take(4).enumerate() {
        // The fifth byte has room for four bits; more would not fit 32.
        if index == 3 && *byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (7 * (index + 1));
        if byte & 0x80 == 0 {
            return Some((unzigzag32(value), at + index + 2));
        }
    }
    None
}

/// Reads a 64-bit value at `at`; gives it with the position behind it.
#[inline(always)]
pub(super) fn read_i64(data: &[u8], at: usize) -> Option<(i64, usize)> {
    let first = *data.get(at)?;
    if first < 0x80 {
        return Some((unzigzag64(first.into()), at + 1));
    }
    let second = *data.get(at + 1)?;
    if second < 0x80 {
        let value = u64::from(first & 0x7f) | u64::from(second) << 7;
        return Some((unzigzag64(value), at + 2));
    }
    read_i64_long(data, at, first)
}

#[inline(never)]
fn read_i64_long(data: &[u8], at: usize, first: u8) -> Option<(i64, usize)> {
    let mut value = u64::from(first & 0x7f);
    for (index, byte) in data.get(at + 1..)?.iter().take(9).enumerate() {
        if index == 8 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * (index + 1));
        if byte & 0x80 == 0 {
            return Some((unzigzag64(value), at + index + 2));
        }
    }
    None
}

/// Appends a value, 32 or 64 bits wide: the encoding of both is the same.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`write`] appends for `value`.
#[inline]
pub(super) fn size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

#[inline(always)]
fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[inline(always)]
fn unzigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_sizes_are_told() {
        let edges = [
            0,
            1,
            -1,
            63,
            64,
            -64,
            -65,
            8191,
            8192,
            i32::MAX.into(),
            i32::MIN.into(),
        ];
        for value in edges.into_iter().chain([i64::MAX, i64::MIN, 1 << 40]) {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(out.len(), size(value));
            assert_eq!(read_i64(&out, 0), Some((value, out.len())));
            assert_eq!(read_i64(&out[..out.len() - 1], 0), None);
            match i32::try_from(value) {
                Ok(narrow) => assert_eq!(read_i32(&out, 0), Some((narrow, out.len()))),
                Err(_) => assert_eq!(read_i32(&out, 0), None),
            }
        }
    }

    #[test]
    fn values_without_an_end_are_refused() {
        assert_eq!(read_i32(&[0xff; 10], 0), None);
        assert_eq!(read_i64(&[0xff; 20], 0), None);
        assert_eq!(read_i32(&[], 0), None);
        assert_eq!(read_i64(&[1], 1), None);
    }
}
