//! `partition.metadata`: the id of the topic that a partition directory belongs to (KIP-516).

use std::io;
use std::path::Path;

use crate::disk::{Disk, read_file, replace_file};

/// The topic id's 16 bytes; none if the directory does not say.
///
/// # Errors
/// The disk cannot be read.
pub fn read_partition_metadata<D: Disk>(disk: &D, dir: &Path) -> io::Result<Option<[u8; 16]>> {
    let bytes = read_file(disk, &dir.join(PARTITION_METADATA))?;
    Ok(bytes.and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).ok()?;
        decode(text.lines().find_map(|line| line.strip_prefix("topic_id: "))?)
    }))
}

/// Says whose partition a directory is, durably.
///
/// # Errors
/// The disk cannot be written.
pub fn write_partition_metadata<D: Disk>(disk: &D, dir: &Path, topic_id: [u8; 16]) -> io::Result<()> {
    let text = format!("version: 0\ntopic_id: {}\n", encode(topic_id));
    replace_file(disk, &dir.join(PARTITION_METADATA), text.as_bytes())
}

/// URL-safe base 64 without padding (RFC 4648), as Kafka prints ids.
fn encode(id: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(id);
    let digit = |shift: u32| ALPHABET[(bits >> shift) as usize & 63] as char;
    // 21 digits of six bits, and the last two bits in front of four zeros.
    let whole = (0..21).map(|n| digit(122 - 6 * n));
    whole
        .chain([ALPHABET[((bits & 3) << 4) as usize] as char])
        .collect()
}

fn decode(text: &str) -> Option<[u8; 16]> {
    let digits = text.trim_end().as_bytes();
    if digits.len() != 22 {
        return None;
    }
    let value = |digit: &u8| ALPHABET.iter().position(|a| a == digit).map(|at| at as u128);
    let mut bits = 0_u128;
    for digit in &digits[..21] {
        bits = bits << 6 | value(digit)?;
    }
    Some((bits << 2 | value(&digits[21])? >> 4).to_be_bytes())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PARTITION_METADATA: &str = "partition.metadata";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_does() {
        assert_eq!(encode([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(encode([255; 16]), "_____________________w");
        let id = *b"0123456789abcdef";
        assert_eq!(decode(&encode(id)), Some(id));
        assert_eq!(decode("short"), None);
    }
}
