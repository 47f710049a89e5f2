//! Zstandard (RFC 8878, KIP-110).

use zstd::stream::raw::{self, Operation};
use zstd::zstd_safe::{DParameter, InBuffer, OutBuffer, compress_bound, get_frame_content_size};

use super::{BatchError, Compression, Output, damaged, too_large};

pub(super) fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let at = out.len();
    out.resize(at + compress_bound(data.len()), 0);
    let bytes = zstd::bulk::compress_to_buffer(data, &mut out[at..], LEVEL)
        .map_err(|error| damaged(Compression::Zstd, error))?;
    out.truncate(at + bytes);
    Ok(())
}

/// A decoder that is made at first use and kept.
#[derive(Default)]
pub(super) struct Decoder {
    raw: Option<raw::Decoder<'static>>,
}

impl Decoder {
    pub(super) fn decompress(&mut self, data: &[u8], out: &mut Output<'_>) -> Result<(), BatchError> {
        let decoder = match &mut self.raw {
            Some(decoder) => decoder,
            None => self.raw.insert(raw::Decoder::new().map_err(error)?),
        };
        decoder.reinit().map_err(error)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(window_log_max(out.limit())))
            .map_err(error)?;
        reserve(data, out)?;
        let mut input = InBuffer::around(data);
        let mut at_frame_end = false;
        while input.pos < data.len() || !at_frame_end {
            let space = out.any_space();
            if space.is_empty() {
                return at_limit(decoder, &mut input, out.limit());
            }
            let before = input.pos;
            let mut output = OutBuffer::around(space);
            let hint = decoder.run(&mut input, &mut output).map_err(error)?;
            let written = output.pos();
            out.advance(written);
            at_frame_end = hint == 0;
            if written == 0 && input.pos == before && !at_frame_end {
                return Err(damaged(Compression::Zstd, "the data is cut short"));
            }
        }
        Ok(())
    }
}

/// Takes the space for a frame that tells its size, so that it decompresses in one go.
fn reserve(data: &[u8], out: &mut Output<'_>) -> Result<(), BatchError> {
    let Ok(Some(bytes)) = get_frame_content_size(data) else {
        return Ok(());
    };
    if bytes > out.left() as u64 {
        return Err(too_large(out.limit()));
    }
    // The size is the sender's word: a block of three bytes or more yields 128 KiB at most.
    let possible = (data.len() / 3).saturating_mul(128 << 10);
    out.space(possible.min(bytes as usize));
    Ok(())
}

/// The limit is reached: only the end of the data may follow.
fn at_limit(
    decoder: &mut raw::Decoder<'_>,
    input: &mut InBuffer<'_>,
    limit: usize,
) -> Result<(), BatchError> {
    let mut spare = [0];
    loop {
        let before = input.pos;
        let mut output = OutBuffer::around(&mut spare[..]);
        let hint = decoder.run(input, &mut output).map_err(error)?;
        if output.pos() > 0 {
            return Err(too_large(limit));
        }
        if input.pos == input.src.len() && hint == 0 {
            return Ok(());
        }
        if input.pos == before {
            return Err(damaged(Compression::Zstd, "the data is cut short"));
        }
    }
}

/// A window that holds all that may come is enough, but clients choose up to 8 MiB without regard to the size.
fn window_log_max(limit: usize) -> u32 {
    limit.max(1).next_power_of_two().ilog2().clamp(23, 27)
}

fn error(error: std::io::Error) -> BatchError {
    damaged(Compression::Zstd, error)
}

const LEVEL: i32 = 3;
