//! Gzip, one or more members (RFC 1952).

use std::io::{Read, Write};

use flate2::Compression as Level;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{BatchError, Compression, Output, damaged, too_large};

pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut encoder = GzEncoder::new(out, Level::default());
    encoder
        .write_all(data)
        .and_then(|()| encoder.finish())
        .map(|_| ())
        .map_err(|error| damaged(Compression::Gzip, error))
}

pub(super) fn decompress(data: &[u8], out: &mut Output<'_>) -> Result<(), BatchError> {
    let mut decoder = MultiGzDecoder::new(data);
    loop {
        let space = out.any_space();
        if space.is_empty() {
            // At the limit: only the end of the data may follow.
            return match decoder.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(too_large(out.limit())),
                Err(error) => Err(damaged(Compression::Gzip, error)),
            };
        }
        match decoder.read(space) {
            Ok(0) => return Ok(()),
            Ok(bytes) => out.advance(bytes),
            Err(error) => return Err(damaged(Compression::Gzip, error)),
        }
    }
}
