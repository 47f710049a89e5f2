//! A transform to start from: flights that left more than half an hour late, or not at all, go to the sink `late`, all others to
//! the sink `early`. Each gets a header that tells its delay.
//!
//! The names of the sinks are those of this plugin; which topics they are is said when it is deployed.

use millstream_plugin::{Output, Record, transform};

/// Called for each record. The key, the timestamp and the value stay as they are, because nothing else is said. An error is one of
/// this record alone; what happens then (`--on-error`) is said when the transform is deployed.
#[transform]
fn split(record: &Record, out: &mut Output) -> Result<(), String> {
    let delay = delay(record.value().ok_or("a flight has a value")?)?;
    let (sink, text) = match delay {
        None => ("late", "never left".to_owned()),
        Some(minutes) if minutes > LATE_MINUTES => ("late", format!("{minutes} min")),
        Some(minutes) => ("early", format!("{minutes} min")),
    };
    // Headers that are given replace those of the record: these are kept, with one more.
    out.to(sink)
        .with_headers(record.headers())
        .with_header("delay", &text);
    Ok(())
}

/// The minutes in `"dep_delay":14`; `None` for `null`, as cancelled flights have it.
///
/// A reader of JSON would do this for any spelling: every crate that builds for `wasm32-unknown-unknown` can be used, serde_json
/// for example.
fn delay(flight: &[u8]) -> Result<Option<i32>, String> {
    let flight = std::str::from_utf8(flight).map_err(|error| error.to_string())?;
    let (_, rest) = flight
        .split_once("\"dep_delay\":")
        .ok_or("the flight has no dep_delay")?;
    let end = rest.find([',', '}']).ok_or("the flight is cut off")?;
    match rest[..end].trim() {
        "null" => Ok(None),
        minutes => minutes
            .parse()
            .map(Some)
            .map_err(|_| format!("dep_delay is no number: {minutes}")),
    }
}

const LATE_MINUTES: i32 = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::Deployed;

    const ON_TIME: &str = r#"{"dep_delay":2,"carrier":"UA","flight":1545}"#;
    const LATE: &str = r#"{"dep_delay":134,"carrier":"UA","flight":1086}"#;
    const CANCELLED: &str = r#"{"dep_delay":null,"carrier":"AA","flight":791}"#;

    #[test]
    fn flights_are_split_by_their_delay() {
        let records = [ON_TIME, LATE, CANCELLED].map(|flight| Record::new().with_value(flight));
        let made = Deployed::to(["late", "early"]).run(split, &records);
        assert_eq!(made.values("late"), [LATE, CANCELLED]);
        assert_eq!(made.values("early"), [ON_TIME]);
        let delays: Vec<_> = made
            .records
            .iter()
            .map(|flight| flight.header_text("delay"))
            .collect();
        assert_eq!(delays, [Some("2 min"), Some("134 min"), Some("never left")]);
    }

    #[test]
    fn nothing_else_changes() {
        let record = Record::new()
            .with_key("N76502")
            .with_value(LATE)
            .with_header("by", "tower")
            .with_timestamp_ms(1_357_052_400_000);
        let made = Deployed::to(["late", "early"]).run(split, &[record]);
        let late = made.at("late")[0];
        assert_eq!((late.key_text(), late.value_text()), (Some("N76502"), Some(LATE)));
        assert_eq!(
            (late.header_text("by"), late.timestamp_ms),
            (Some("tower"), 1_357_052_400_000)
        );
    }

    #[test]
    fn what_is_no_flight_is_an_error_of_its_own() {
        let values = [
            "",
            r#"{"flight":1}"#,
            r#"{"dep_delay":"#,
            r#"{"dep_delay":"x"}"#,
            ON_TIME,
        ];
        let records = values.map(|value| Record::new().with_value(value));
        let made = Deployed::to(["late", "early"]).run(split, &records);
        assert_eq!((made.errors.len(), made.records.len()), (4, 1));
        assert_eq!(made.errors[3].1, "dep_delay is no number: \"x\"");
    }
}
