//! Numbers as a predicate needs them: integers exactly, everything else as a double.

use std::cmp::Ordering;

/// The value of a JSON number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Written without fraction and exponent, and fits.
    Integer(i64),
    /// Anything else, rounded to the nearest double; too large ones are infinite.
    Float(f64),
}

impl Number {
    /// The number that this text is; `None` if it is none.
    pub fn parse(raw: &[u8]) -> Option<Number> {
        if let Some(integer) = parse_integer(raw) {
            return Some(Number::Integer(integer));
        }
        // Rust's float parser also takes words such as `inf`, which JSON has not.
        if !raw
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        {
            return None;
        }
        std::str::from_utf8(raw).ok()?.parse().ok().map(Number::Float)
    }

    /// Compares by value, without rounding an integer to a double first.
    pub fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Number::Integer(a), Number::Float(b)) => integer_to_float(a, b),
            (Number::Float(a), Number::Integer(b)) => integer_to_float(b, a).reverse(),
        }
    }
}

fn parse_integer(raw: &[u8]) -> Option<i64> {
    let (negative, digits) = match raw {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, raw),
    };
    // 18 digits always fit: longer ones take the slow path.
    if digits.is_empty() || digits.len() > 18 {
        return std::str::from_utf8(raw).ok()?.parse().ok();
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

fn integer_to_float(integer: i64, float: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    if float >= LIMIT {
        return Ordering::Less;
    }
    if float < -LIMIT {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    integer
        .cmp(&(whole as i64))
        .then_with(|| whole.partial_cmp(&float).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, expected: Ordering, right: &str) {
        let parse = |text: &str| Number::parse(text.as_bytes()).expect("a number");
        assert_eq!(parse(left).compare(parse(right)), expected, "{left} and {right}");
        assert_eq!(
            parse(right).compare(parse(left)),
            expected.reverse(),
            "{right} and {left}"
        );
    }

    #[test]
    fn numbers_compare_by_value_and_not_by_spelling() {
        check("1", Ordering::Equal, "1.0");
        check("-0", Ordering::Equal, "0");
        check("100", Ordering::Equal, "1e2");
        check("1.5", Ordering::Greater, "1");
        check("-1.5", Ordering::Less, "-1");
        check("9007199254740993", Ordering::Greater, "9007199254740992.0");
        check("9223372036854775807", Ordering::Less, "9223372036854775808");
        check("-9223372036854775808", Ordering::Equal, "-9223372036854775808.0");
        check("1e400", Ordering::Greater, "9223372036854775807");
    }

    #[test]
    fn words_are_not_numbers() {
        for text in ["", "-", "inf", "NaN", "0x10", "1_000", "1e", "--1"] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
    }
}
