//! Transform: hides values in JSON records (redacted, hashed, or all but the last characters) and leaves every other byte alone.
//! A record that is not JSON is an error: nothing passes unmasked.

mod masking;

pub use masking::Masking;

use millstream_plugin::{Output, Record, Transform, transform};

#[transform]
impl Transform for Masking {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Masking::configure(config)?)
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let Some(doc) = record.value() else {
            output.unchanged();
            return Ok(());
        };
        if !self.find(doc).map_err(|malformed| malformed.to_string())? {
            output.unchanged();
            return Ok(());
        }
        output.value_from(|out| self.write(doc, out));
        Ok(())
    }
}
