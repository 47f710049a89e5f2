//! Transform: keeps some fields of JSON records, or drops some.

mod projection;

pub use projection::Projection;

use millstream_plugin::{Output, Record, Transform, transform};

#[transform]
impl Transform for Projection {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Projection::configure(config)?)
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let Some(doc) = record.value() else {
            output.unchanged();
            return Ok(());
        };
        let mut projected = Ok(());
        output.value_from(|out| projected = self.project(doc, out));
        projected.map_err(|malformed| malformed.to_string())
    }
}
