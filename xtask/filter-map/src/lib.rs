//! A filter and a map in one transform, as somebody would write it who has both to do: flights that are late by more than
//! [`LATE_MINUTES`] stay, and get another value. `xtask/kafka/FilterMap.java` does the same for Kafka Streams.
//!
//! The document is checked to its end, and read once for both.

use json_scan::{Number, Pointers, Spans};
use millstream_plugin::{Output, Record, Transform, transform};

/// Flights that are later than this stay.
pub const LATE_MINUTES: i64 = 49;

/// The transform.
pub struct FilterMap {
    pointers: Pointers,
    spans: Spans,
}

#[transform]
impl Transform for FilterMap {
    fn configure(_: &[u8]) -> Result<Self, String> {
        let mut pointers = Pointers::default();
        for field in FIELDS {
            pointers.add(field).map_err(|error| error.to_string())?;
        }
        let spans = Spans::new(&pointers);
        Ok(FilterMap { pointers, spans })
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let flight = record.value().ok_or("a flight has a value")?;
        let scanned = self.spans.scan(flight, &self.pointers);
        scanned.map_err(|malformed| malformed.to_string())?;
        let field = |slot: usize| {
            self.spans
                .get(slot)
                .map(|span| span.raw(flight))
                .ok_or(FIELDS[slot])
        };
        let minutes = field(DELAY)?;
        let Some(Number::Integer(delay)) = Number::parse(minutes) else {
            return Err("the delay is no whole number".to_owned());
        };
        if delay <= LATE_MINUTES {
            return Ok(());
        }
        let parts: [&[u8]; 9] = [
            br#"{"carrier":"#,
            field(CARRIER)?,
            br#","flight":"#,
            field(FLIGHT)?,
            br#","to":"#,
            field(DESTINATION)?,
            br#","late":"#,
            minutes,
            b"}",
        ];
        output.value_from(|out| parts.iter().for_each(|part| out.extend_from_slice(part)));
        Ok(())
    }
}

const FIELDS: [&str; 4] = ["/delay", "/carrier", "/flight", "/destination"];
const DELAY: usize = 0;
const CARRIER: usize = 1;
const FLIGHT: usize = 2;
const DESTINATION: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::Deployed;

    #[test]
    fn late_flights_stay_and_are_rewritten() {
        let flights = [49, 50].map(|delay| {
            format!(r#"{{"flight":1,"carrier":"UA","origin":"EWR","destination":"IAH","delay":{delay},"tail":"N1"}}"#)
        });
        let records =
            [&flights[0], &flights[1]].map(|flight| Record::new().with_key("N1").with_value(flight.as_str()));
        let mut transform = FilterMap::configure(b"").expect("it takes no configuration");
        let made = Deployed::to(["late"]).run(|record, out| transform.transform(record, out), &records);
        let late = made.at("late");
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].key_text(), Some("N1"));
        assert_eq!(
            late[0].value_text(),
            Some(r#"{"carrier":"UA","flight":1,"to":"IAH","late":50}"#)
        );
    }
}
