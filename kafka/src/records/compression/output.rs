//! The buffer that codecs decompress into: grows as bytes come, never past its limit.

use super::{BatchError, too_large};

pub(super) struct Output<'a> {
    buffer: &'a mut Vec<u8>,
    filled: usize,
    limit: usize,
}

impl<'a> Output<'a> {
    /// Over `buffer`, whose content is overwritten, for at most `limit` bytes. Record offsets are 32 bits wide.
    pub(super) fn new(buffer: &'a mut Vec<u8>, limit: usize) -> Self {
        Self {
            buffer,
            filled: 0,
            limit: limit.min(i32::MAX as usize),
        }
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that may still come.
    pub(super) fn left(&self) -> usize {
        self.limit - self.filled
    }

    /// Space for the next `wanted` bytes, or for as many as the limit leaves.
    pub(super) fn space(&mut self, wanted: usize) -> &mut [u8] {
        self.split(wanted).1
    }

    /// What was filled so far, and space for the next bytes.
    pub(super) fn split(&mut self, wanted: usize) -> (&[u8], &mut [u8]) {
        let end = self.filled + wanted.min(self.left());
        if end > self.buffer.len() {
            let doubled = (self.buffer.len() * 2).min(self.limit);
            let target = end.max(doubled);
            self.buffer.reserve_exact(target - self.buffer.len());
            self.buffer.resize(target, 0);
        }
        let (done, rest) = self.buffer.split_at_mut(self.filled);
        (done, &mut rest[..end - self.filled])
    }

    /// All the space that is there already, or a little more.
    pub(super) fn any_space(&mut self) -> &mut [u8] {
        let there = self.buffer.len().min(self.limit).saturating_sub(self.filled);
        self.space(if there == 0 { STEP_BYTES } else { there })
    }

    /// Tells that the first `bytes` of the space have been written.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.filled += bytes;
        debug_assert!(
            self.filled <= self.limit,
            "codecs write within the space they got"
        );
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        if bytes.len() > self.left() {
            return Err(too_large(self.limit));
        }
        self.space(bytes.len()).copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }
}

const STEP_BYTES: usize = 64 << 10;
