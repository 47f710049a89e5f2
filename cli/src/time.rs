//! Times as people write them, and places in a log by time.

use anyhow::{Context, bail};
use millstream_client::Start;

/// Reads where to begin: `earliest`, `latest`, an offset, `@` and milliseconds since 1970, or a time such as
/// `2026-11-24T15:30:00Z`.
pub fn parse_start(text: &str) -> anyhow::Result<Start> {
    Ok(match text {
        "earliest" | "beginning" => Start::Earliest,
        "latest" | "end" => Start::Latest,
        _ => {
            if let Ok(offset) = text.parse::<i64>() {
                if offset < 0 {
                    bail!("an offset is not negative");
                }
                Start::Offset(offset)
            } else if let Some(ms) = text.strip_prefix('@') {
                Start::Timestamp(ms.parse().context("after '@' come milliseconds since 1970")?)
            } else {
                Start::Timestamp(parse_time(text).with_context(|| {
                    format!("'{text}' is none of: earliest, latest, an offset, @MILLISECONDS, 2026-11-24T15:30:00Z")
                })?)
            }
        }
    })
}

/// Milliseconds since 1970 of a time in UTC: a date, or a date and a time as RFC 3339 has them with `Z`.
fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute) = (time.next()?.ok()?, time.next()?.ok()?);
    let second = time.next().unwrap_or(Ok(0)).ok()?;
    let ms = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?
    };
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && (1970..=9999).contains(&year);
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    valid.then_some(seconds * 1000 + ms)
}

/// Milliseconds since 1970 as RFC 3339 has them, in UTC.
pub fn show_time(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        rest % 1000
    )
}

/// Days of the Gregorian calendar since 1970, by eras of 400 years that begin in March
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_since_1970`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * of_era + of_era / 4 - of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T12:00:00.000Z", 951_825_600_000),
            ("2026-11-24T15:30:00.250Z", 1_795_534_200_250),
        ] {
            assert_eq!(parse_time(text), Some(ms), "{text}");
            assert_eq!(show_time(ms), text);
        }
        assert_eq!(parse_time("2026-11-24"), parse_time("2026-11-24T00:00:00Z"));
        assert_eq!(parse_time("2026-13-01"), None);
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn places_are_read() {
        assert_eq!(parse_start("earliest").unwrap(), Start::Earliest);
        assert_eq!(parse_start("42").unwrap(), Start::Offset(42));
        assert_eq!(parse_start("@1000").unwrap(), Start::Timestamp(1000));
        assert!(parse_start("-5").is_err());
        assert!(parse_start("soon").is_err());
    }
}
