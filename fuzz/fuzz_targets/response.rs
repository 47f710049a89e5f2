//! Any bytes as a response of any API and version, and as the header before one.

#![no_main]

mod apis;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream_kafka::Request;
use millstream_kafka::header::ResponseHeader;
use millstream_kafka::wire::Reader;

fuzz_target!(|data: &[u8]| {
    for header_version in 0..2 {
        let _ = ResponseHeader::decode(&mut Reader::new(Bytes::copy_from_slice(data)), header_version);
    }
    apis::read::<Responses>(data);
});

struct Responses;

impl apis::Side for Responses {
    fn check<R: Request>(version: i16, body: Bytes) {
        apis::check::<R::Response>(version, body);
    }
}
