//! Requests and answers on a stream: a byte that says what it is, the length in four bytes (big endian), the bytes.
//!
//! The length is said, not left to the end of the stream: a call that is given up half-way ends its stream, too, and
//! half a request must not be taken for a whole one.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};

/// Why no frame was read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It says that it is larger than it may be.
    #[error("it has {length} bytes, and {max} are allowed")]
    TooLarge {
        /// Bytes that it says to have.
        length: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// The stream ended before the frame did.
    #[error("it ends too early")]
    Ended,
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] ReadError),
}

/// Writes a whole frame, and ends the stream.
///
/// # Errors
/// The stream broke, or the other side does not want it.
pub async fn write(send: &mut SendStream, what: u8, body: Bytes) -> Result<(), WriteError> {
    let length = u32::try_from(body.len()).expect("frames are bounded below four GiB");
    let mut head = [what; 1 + LENGTH_BYTES];
    head[1..].copy_from_slice(&length.to_be_bytes());
    let mut chunks = [Bytes::copy_from_slice(&head), body];
    send.write_all_chunks(&mut chunks).await?;
    // It fails only if it was done before.
    let _ = send.finish();
    Ok(())
}

/// Reads the byte that begins a stream or an answer.
///
/// # Errors
/// There is none.
pub async fn what(recv: &mut RecvStream) -> Result<u8, FrameError> {
    let mut what = [0];
    recv.read_exact(&mut what).await?;
    Ok(what[0])
}

/// Reads length and bytes. Memory is taken as bytes arrive, not as the length says.
///
/// # Errors
/// It is larger than `max`, or does not arrive whole.
pub async fn body(recv: &mut RecvStream, max: usize) -> Result<Bytes, FrameError> {
    let mut length = [0; LENGTH_BYTES];
    recv.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > max {
        return Err(FrameError::TooLarge { length, max });
    }
    let mut body = BytesMut::new();
    while body.len() < length {
        let chunk = recv.read_chunk(length - body.len(), true).await?;
        let chunk = chunk.ok_or(FrameError::Ended)?.bytes;
        if chunk.len() == length {
            // As most calls arrive: in one packet, which need not be copied.
            return Ok(chunk);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

impl From<ReadExactError> for FrameError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Ended,
            ReadExactError::ReadError(error) => Self::Stream(error),
        }
    }
}

const LENGTH_BYTES: usize = 4;
