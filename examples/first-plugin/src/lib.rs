//! A filter to start from: keeps the records whose value contains a text, `"carrier":"UA"` unless configured otherwise.

use millstream_plugin::{Filter, Record, filter};

struct Containing {
    text: String,
}

#[filter]
impl Filter for Containing {
    /// The configuration is the text itself. An error is shown to whoever attaches the plugin.
    fn configure(config: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(config).map_err(|error| error.to_string())?;
        Ok(Containing {
            text: if text.is_empty() {
                "\"carrier\":\"UA\"".to_owned()
            } else {
                text.to_owned()
            },
        })
    }

    /// Called for each record. `Err("...".into())` would say that this record cannot be judged.
    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
        let Some(value) = record.value() else {
            return Ok(false);
        };
        Ok(value
            .windows(self.text.len())
            .any(|part| part == self.text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_carrier() {
        let mut filter = Containing::configure(b"").expect("the default");
        let united = Record::new().with_value(r#"{"carrier":"UA","flight":1545}"#);
        let delta = Record::new().with_value(r#"{"carrier":"DL","flight":461}"#);
        assert_eq!(filter.keep(&united), Ok(true));
        assert_eq!(filter.keep(&delta), Ok(false));
        assert_eq!(filter.keep(&Record::new()), Ok(false));
    }

    #[test]
    fn refuses_what_is_no_text() {
        assert!(Containing::configure(b"\xff").is_err());
    }
}
