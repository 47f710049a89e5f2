//! Frames: how records lie in a file.
//!
//! A frame is: length of the payload (u32), its complement (u32), how far the file was durable when the frame was
//! written (u64), CRC-32C over that and the payload (u32), payload; little-endian. The payload's first byte is its kind.
//!
//! The durable end tells damage from a torn write. A crash leaves any sectors of what was not synced, so bytes that
//! are no frame may be followed by whole frames, and that is no damage as long as none of them knew those bytes to be
//! durable.

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: u8,
    /// What it says.
    pub body: &'a [u8],
    /// Where it begins.
    pub position: u64,
}

/// Bytes that were durable once are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub position: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// Bytes that a record takes.
pub fn framed_len(body: &[u8]) -> usize {
    HEADER_BYTES + 1 + body.len()
}

/// Appends a record, written when the file was durable up to `durable`.
pub fn push(bytes: &mut Vec<u8>, durable: u64, kind: u8, body: &[u8]) {
    let length = body.len() as u32 + 1;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(&durable.to_le_bytes());
    let crc = crc32c::crc32c(&durable.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &[kind]);
    let crc = crc32c::crc32c_append(crc, body);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
}

/// A whole file of records, all of them durable.
pub fn seal(records: &[(u8, &[u8])]) -> Vec<u8> {
    let total: usize = records.iter().map(|(_, body)| framed_len(body)).sum();
    let mut bytes = Vec::with_capacity(total);
    for (kind, body) in records {
        push(&mut bytes, total as u64, *kind, body);
    }
    bytes
}

/// The records of a file, and where they end: what follows was never durable.
///
/// # Errors
/// Something that was durable is damaged.
pub fn split(bytes: &[u8]) -> Result<(Vec<Frame<'_>>, usize), Damage> {
    let mut frames = Vec::new();
    let mut position = 0;
    let mut durable = 0;
    while let Some((found, end)) = frame_at(bytes, position) {
        durable = durable.max(found.durable);
        frames.push(Frame {
            kind: found.payload[0],
            body: &found.payload[1..],
            position: position as u64,
        });
        position = end;
    }
    let damage = |reason| Damage {
        position: position as u64,
        reason,
    };
    if durable > bytes.len() as u64 {
        return Err(damage("the file has been cut off"));
    }
    if durable > position as u64 {
        return Err(damage("a record that was durable does not match its checksum"));
    }
    let knows_better =
        |at: usize| frame_at(bytes, at).is_some_and(|(later, _)| later.durable > position as u64);
    if (position + 1..bytes.len()).any(knows_better) {
        return Err(damage("a record before others does not match its checksum"));
    }
    Ok((frames, position))
}

struct Found<'a> {
    durable: u64,
    payload: &'a [u8],
}

/// The whole frame that begins at `position`, and its end.
fn frame_at(bytes: &[u8], position: usize) -> Option<(Found<'_>, usize)> {
    let header = bytes.get(position..position + HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let length = word(0);
    if length != !word(4) || length == 0 {
        return None;
    }
    let end = (position + HEADER_BYTES).checked_add(length as usize)?;
    let payload = bytes.get(position + HEADER_BYTES..end)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..16]), payload);
    if crc != word(16) {
        return None;
    }
    let durable = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
    Some((Found { durable, payload }, end))
}

const HEADER_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Damage> {
        let (frames, _) = split(bytes)?;
        Ok(frames.iter().map(|frame| frame.body.to_vec()).collect())
    }

    #[test]
    fn what_was_never_durable_is_cut_whatever_is_left_of_it() {
        let sealed = seal(&[(1, b"one"), (2, b"two")]);
        let mut bytes = sealed.clone();
        push(&mut bytes, sealed.len() as u64, 3, b"three");
        push(&mut bytes, sealed.len() as u64, 3, b"four");
        for cut in sealed.len()..bytes.len() {
            assert!(bodies(&bytes[..cut]).unwrap().len() >= 2, "cut at {cut}");
            // The first of two unsynced records is torn, the second is whole.
            let mut torn = bytes.clone();
            torn[cut] ^= 0x10;
            assert!(bodies(&torn).unwrap().len() >= 2, "torn at {cut}");
        }
    }

    #[test]
    fn what_was_durable_must_be_there() {
        let sealed = seal(&[(1, b"one"), (2, b"two")]);
        let mut bytes = sealed.clone();
        push(&mut bytes, sealed.len() as u64, 3, b"three");
        let synced = bytes.len() as u64;
        push(&mut bytes, synced, 3, b"four");
        for hurt in 0..synced as usize {
            let mut hurt_bytes = bytes.clone();
            hurt_bytes[hurt] ^= 0x10;
            assert!(bodies(&hurt_bytes).is_err(), "hurt at {hurt}");
        }
        for hurt in 0..sealed.len() {
            let mut hurt_bytes = sealed.clone();
            hurt_bytes[hurt] ^= 0x10;
            // Where nothing readable is left, whoever needs a first record misses it.
            assert!(
                bodies(&hurt_bytes).map_or(true, |found| found.is_empty()),
                "hurt at {hurt}"
            );
            assert!(
                bodies(&sealed[..hurt]).map_or(true, |found| found.is_empty()),
                "cut at {hurt}"
            );
        }
    }
}
