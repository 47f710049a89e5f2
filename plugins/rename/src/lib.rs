//! Transform: gives fields of JSON records other names and leaves every other byte alone.

mod renaming;

pub use renaming::{Renaming, Unrenamable};

use millstream_plugin::{Output, Record, Transform, transform};

#[transform]
impl Transform for Renaming {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Renaming::configure(config)?)
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let found = match record.value() {
            Some(doc) => self.find(doc).map_err(|error| error.to_string())?.then_some(doc),
            None => None,
        };
        match found {
            Some(doc) => output.value_from(|out| self.write(doc, out)),
            None => output.unchanged(),
        };
        Ok(())
    }
}
