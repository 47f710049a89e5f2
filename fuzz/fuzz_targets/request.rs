//! Any bytes as a request of any API and version, and as the header before one.

#![no_main]

mod apis;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_kafka::Request;
use millstream_kafka::header::RequestHeader;
use millstream_kafka::wire::Reader;

fuzz_target!(|data: &[u8]| {
    let _ = RequestHeader::decode(&mut Reader::new(Bytes::copy_from_slice(data)));
    apis::read::<Requests>(data);
});

struct Requests;

impl apis::Side for Requests {
    fn check<R: Request>(version: i16, body: Bytes) {
        apis::check::<R>(version, body);
    }
}
