//! A transform: writes values in capital letters, and drops records without one.

use millstream_plugin::{Output, Record, Transform};

struct Plugin;

impl Transform for Plugin {
    /// Reads the configuration, once. An error is shown to whoever attaches the plugin.
    fn configure(_config: &[u8]) -> Result<Self, String> {
        Ok(Plugin)
    }

    /// Called for each record: tells `output` what becomes of it; nothing drops it.
    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        if let Some(value) = record.value() {
            output.with_value(&value.to_ascii_uppercase());
        }
        Ok(())
    }
}

millstream_plugin::transform!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_capital_letters() {
        let mut output = Output::new();
        Plugin
            .transform(&Record::new().with_value("abc"), &mut output)
            .unwrap();
        assert_eq!(output.values(), [Some(&b"ABC"[..])]);
    }
}
