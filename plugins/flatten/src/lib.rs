//! Transform: makes a record of each element of an array, and one level of nested objects, whose names are joined.

mod flattening;

pub use flattening::{BYTES_MAX, Flattening, Unflattenable};

use millstream_plugin::{Output, Record, Transform, transform};

#[transform]
impl Transform for Flattening {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Flattening::configure(config)?)
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let Some(doc) = record.value() else {
            output.unchanged();
            return Ok(());
        };
        let flattened = self.flatten(doc, |value| {
            output.with_value(value);
        });
        flattened.map_err(|error| error.to_string())
    }
}
