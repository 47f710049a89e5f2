//! The content of strings that have passed the cursor: escapes become the characters they stand for.

/// Calls `piece` with the content of a checked string, part by part: `content` is what stands between the quotes.
/// Content that no [`crate::Cursor`] has checked gives something, never a panic.
pub fn decode(content: &[u8], mut piece: impl FnMut(&[u8])) {
    let mut rest = content;
    while let Some(plain) = rest.iter().position(|&byte| byte == b'\\') {
        piece(&rest[..plain]);
        let escape = &rest[plain..];
        let (character, length) = unescape(escape);
        piece(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &escape[length.min(escape.len())..];
    }
    piece(rest);
}

/// Whether the content of a checked string, decoded, is `expected`.
pub fn decoded_eq(content: &[u8], expected: &[u8]) -> bool {
    let mut rest = Some(expected);
    decode(content, |piece| rest = rest.and_then(|r| r.strip_prefix(piece)));
    rest == Some(&[])
}

/// The character that an escape stands for, and the length of the escape.
fn unescape(escape: &[u8]) -> (char, usize) {
    let simple = match escape.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unescape_unicode(escape),
        Some(&byte) => char::from(byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (simple, 2)
}

fn unescape_unicode(escape: &[u8]) -> (char, usize) {
    let unit = |at: usize| escape.get(at..at + 4).and_then(hex4).unwrap_or(0xfffd);
    let first = unit(2);
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (unit(8).wrapping_sub(0xdc00) & 0x3ff);
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
}

/// Four hexadecimal digits as a number.
pub(crate) fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| {
        Some(value << 4 | char::from(digit).to_digit(16)?)
    })
}
