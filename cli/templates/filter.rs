//! A filter: keeps the records whose value contains a text, the plugin's configuration.

use millstream_plugin::{Filter, Record, filter};

struct Plugin {
    text: String,
}

#[filter]
impl Filter for Plugin {
    /// Reads the configuration, once. An error is shown to whoever attaches the plugin.
    fn configure(config: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(config).map_err(|error| error.to_string())?;
        Ok(Plugin {
            text: text.to_owned(),
        })
    }

    /// Called for each record: `Ok(false)` drops it, `Err("why".into())` reports it as an error.
    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
        let text = self.text.as_bytes();
        let found =
            |value: &[u8]| text.is_empty() || value.windows(text.len()).any(|part| part == text);
        Ok(record.value().is_some_and(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_contains_the_text() {
        let mut plugin = Plugin::configure(b"UA").unwrap();
        assert_eq!(
            plugin.keep(&Record::new().with_value(r#"{"carrier":"UA"}"#)),
            Ok(true)
        );
        assert_eq!(
            plugin.keep(&Record::new().with_value(r#"{"carrier":"DL"}"#)),
            Ok(false)
        );
    }
}
