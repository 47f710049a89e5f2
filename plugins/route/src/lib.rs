//! Transform: sends each record to one of the sinks, by predicates over JSON pointers. The first that holds wins. A record
//! that is not JSON is an error.

mod routing;

pub use routing::{Destination, Routing};

use millstream_plugin::{Output, Record, Sinks, Transform, transform};

#[transform]
impl Transform for Routing {
    fn configure(config: &[u8]) -> Result<Self, String> {
        Ok(Routing::configure(config, &Sinks::declared())?)
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let to = self.destination(record.value());
        match to.map_err(|malformed| malformed.to_string())? {
            Destination::Nowhere => {}
            Destination::Sink(place) => {
                output.unchanged().to_sink(place);
            }
            Destination::Everywhere => {
                for place in 0..self.sinks() {
                    output.unchanged().to_sink(place);
                }
            }
        }
        Ok(())
    }
}
