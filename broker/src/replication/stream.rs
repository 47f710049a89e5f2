//! The two ends of a way to another broker, whatever carries it.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use tokio::io::AsyncRead;

/// A future that may be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where frames go out. Bytes are handed over, not copied.
pub trait Sink: Send {
    /// Sends whole frames; waits while the other side takes no more.
    fn send(&mut self, frames: Bytes) -> BoxFuture<'_, io::Result<()>>;
}

/// Where frames come in.
pub type Source = Box<dyn AsyncRead + Send + Unpin>;

/// Opens streams to leaders.
pub trait Dial: Send + Sync {
    /// Opens a stream to a broker.
    fn dial(&self, to: BrokerId) -> BoxFuture<'_, io::Result<(Box<dyn Sink>, Source)>>;
}

impl Sink for quinn::SendStream {
    fn send(&mut self, frames: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { self.write_chunk(frames).await.map_err(io::Error::from) })
    }
}
