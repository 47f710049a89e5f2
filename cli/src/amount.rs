//! Amounts with their units, as people write and read them: times, bytes, shares.

use std::time::Duration;

/// A time: `100ms`, `60s`, `15m`, `2h`, `1d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let ms_each: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("'{text}' is no time such as 100ms, 60s, 15m or 2h")),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms_each));
    ms.map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is no time such as 100ms, 60s, 15m or 2h"))
}

/// A number of bytes: `1MiB`, `512KiB`, `1048576`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let wrong = || format!("'{text}' is no number of bytes such as 1MiB, 512KiB or 1048576");
    let each: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(each))
        .ok_or_else(wrong)
}

/// A share of a hundred, in thousandths: `10%`, `0.5%`.
pub fn parse_permille(text: &str) -> Result<u16, String> {
    let wrong = || format!("'{text}' is no share such as 10% or 0.5%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim();
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(tenths) || tenths.len() > 1 {
        return Err(wrong());
    }
    let (whole, tenths) = (whole.parse::<u16>().ok(), tenths.parse::<u16>().ok());
    let permille = whole
        .zip(tenths)
        .and_then(|(w, t)| w.checked_mul(10)?.checked_add(t));
    permille.filter(|permille| *permille <= 1000).ok_or_else(wrong)
}

/// A time for people, with the two units that say most.
pub fn show_duration(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => format!("{minutes} m {} s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours} h {} m", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The number at the beginning, and the unit behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let read = ["100ms", "60s", "15m", "2h", "1d", "1 min"]
            .map(|text| parse_duration(text).map(|d| d.as_millis()));
        assert_eq!(
            read,
            [
                Ok(100),
                Ok(60_000),
                Ok(900_000),
                Ok(7_200_000),
                Ok(86_400_000),
                Ok(60_000)
            ]
        );
        for wrong in [
            "",
            "5",
            "ms",
            "-1s",
            "1.5s",
            "5 apples",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        let shown = [0, 999, 1000, 61_000, 3_700_000, 90_000_000].map(show_duration);
        assert_eq!(shown, ["0 ms", "999 ms", "1 s", "1 m 1 s", "1 h 1 m", "1 d 1 h"]);
    }

    #[test]
    fn bytes_and_shares_are_read_as_they_are_written() {
        let read = ["1MiB", "512KiB", "1048576", "2 GB", "7B"].map(parse_bytes);
        assert_eq!(
            read,
            [Ok(1 << 20), Ok(1 << 19), Ok(1_048_576), Ok(2_000_000_000), Ok(7)]
        );
        for wrong in ["", "MiB", "-1", "1.5MiB", "1 apple", "99999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        let read = ["10%", "0.5%", "100%", "0%"].map(parse_permille);
        assert_eq!(read, [Ok(100), Ok(5), Ok(1000), Ok(0)]);
        for wrong in ["10", "%", "101%", "0.55%", "-1%", "a%", ".5%", "70000%"] {
            assert!(parse_permille(wrong).is_err(), "{wrong}");
        }
    }
}
