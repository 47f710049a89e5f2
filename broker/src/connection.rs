//! One client connection: frames in, responses out, in order.
//!
//! Two tasks share a connection. The reader takes one frame at a time off the socket and lets the handlers begin it;
//! a produce request may go on waiting for the disk while the next frame is read. The writer sends the responses in
//! the order of the requests, as Kafka's protocol demands. What a connection can hold is bounded: the size of a frame,
//! the responses that wait and their bytes, the bytes of all frames together, the time without traffic, the time that
//! a large frame may take to arrive, and the time that a client may leave a response unread.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_kafka::wire::{Chunk, Text};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::context::Context;
use crate::handlers;
use crate::partitions::FileSlice;

/// Who is on the other side, as far as handlers need to know.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Number of the connection, unique while the broker runs.
    pub id: u64,
    /// Address of the client.
    pub peer: SocketAddr,
    /// What the client calls itself in the header of the current request.
    pub client_id: Text,
}

impl ConnectionInfo {
    /// Another broker, or this one itself, in place of a client.
    pub fn of_broker() -> Self {
        Self {
            id: 0,
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            client_id: Text::default(),
        }
    }
}

/// An encoded response: its chunks, and the files that its external chunks point into.
#[derive(Debug, Default)]
pub struct Response {
    /// The frame, length first.
    pub chunks: Vec<Chunk>,
    /// What `Chunk::External { index, .. }` stands for.
    pub files: Vec<FileSlice>,
}

/// What a handler answers with.
pub enum Reply {
    /// The response is ready.
    Now(Response),
    /// The response will be ready later (produce waits for the disk); the next request may begin meanwhile.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
    /// There is no response (`acks=0`).
    Nothing,
}

/// Why a connection ends. The other side is told nothing more: Kafka closes the connection in these cases, too.
#[derive(Debug, thiserror::Error)]
pub enum Disconnect {
    /// The client closed it, or the network did.
    #[error("closed by the client")]
    Closed,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No traffic for `connections.max.idle.ms`.
    #[error("idle for too long")]
    Idle,
    /// A frame announced a size that is negative or beyond `socket.request.max.bytes`.
    #[error("request of {0} bytes refused")]
    FrameSize(i32),
    /// A frame cannot be understood.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// A request of a version that is not offered.
    #[error("request with unsupported api key {key} version {version}")]
    Unsupported {
        /// Api key of the request.
        key: i16,
        /// Version of the request.
        version: i16,
    },
    /// The broker shuts down.
    #[error("broker shuts down")]
    Shutdown,
}

/// Serves a connection until either side ends it.
pub async fn serve(context: Arc<Context>, stream: TcpStream, info: ConnectionInfo) {
    let (read_half, write_half) = stream.into_split();
    let (replies, queue) = mpsc::channel(context.settings.inflight_requests_max as usize);
    let peer = info.peer;
    let unsent = Arc::new(AtomicUsize::new(0));
    let writer = Writer {
        idle: idle(&context),
        context: context.clone(),
        stream: write_half,
        unsent: unsent.clone(),
    };
    let writer = tokio::spawn(writer.run(queue));
    let mut shutdown = context.shutdown.subscribe();
    let mut reader = Reader::new(&context, read_half);
    let end = tokio::select! {
        end = read_requests(&context, &mut reader, info, replies, &unsent) => end,
        _ = is_cut_off(&context, &mut shutdown) => Disconnect::Shutdown,
    };
    match &end {
        Disconnect::Closed | Disconnect::Idle | Disconnect::Shutdown => {
            tracing::debug!(%peer, reason = %end, "connection ended")
        }
        Disconnect::Io(_) => tracing::debug!(%peer, reason = %end, "connection lost"),
        _ => tracing::warn!(%peer, reason = %end, "connection closed"),
    }
    // The queue is closed now: the writer sends what is still due and ends; a client that no longer reads is cut off.
    let linger = Duration::from_millis(WRITE_LINGER_MS_MAX);
    let abort = writer.abort_handle();
    if tokio::time::timeout(linger, writer).await.is_err() {
        abort.abort();
    }
}

/// Resolves when a connection is not served any more. A broker that hands over what it leads waits a little for a quiet
/// moment: a client whose request is lost waits before it sends it again.
async fn is_cut_off(context: &Context, shutdown: &mut watch::Receiver<bool>) {
    // An error says that the broker is gone.
    let _ = shutdown.wait_for(|down| *down).await;
    if context.controller.hands_over() {
        tokio::time::sleep(QUIET_WAIT).await;
    }
}

/// Resolves once the broker ends and everything is answered that was asked.
async fn is_quiet(shutdown: &mut watch::Receiver<bool>, unsent: &AtomicUsize) {
    let _ = shutdown.wait_for(|down| *down).await;
    while unsent.load(Ordering::Acquire) > 0 {
        tokio::time::sleep(QUIET_LOOK).await;
    }
}

/// Takes frames and lets the handlers begin them, in order.
async fn read_requests(
    context: &Arc<Context>,
    reader: &mut Reader,
    mut info: ConnectionInfo,
    replies: mpsc::Sender<Queued>,
    unsent: &AtomicUsize,
) -> Disconnect {
    let mut shutdown = context.shutdown.subscribe();
    let mut quiet = std::pin::pin!(is_quiet(&mut shutdown, unsent));
    let waiting = Arc::new(Semaphore::new(REPLY_MEMORY_UNITS as usize));
    loop {
        let read = tokio::select! {
            biased;
            read = reader.frame() => read,
            () = &mut quiet => Err(Disconnect::Shutdown),
        };
        let (frame, _memory) = match read {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        context.metrics.bytes_in(frame.len() + 4);
        let reply = match handlers::dispatch(context, &mut info, frame).await {
            Ok(Reply::Nothing) => continue,
            Ok(reply) => reply,
            Err(end) => return end,
        };
        // Responses wait in memory only so far: a client that does not read has to wait itself.
        let memory = match &reply {
            Reply::Now(response) => reserve(&waiting, response.memory_bytes(), REPLY_MEMORY_UNITS).await,
            _ => None,
        };
        unsent.fetch_add(1, Ordering::AcqRel);
        if replies.send(Queued { reply, memory }).await.is_err() {
            return Disconnect::Closed;
        }
    }
}

/// A reply that waits for its turn.
struct Queued {
    reply: Reply,
    memory: Option<OwnedSemaphorePermit>,
}

impl Response {
    /// Bytes that it holds in memory.
    fn memory_bytes(&self) -> usize {
        let bytes = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::External { .. } => 0,
        });
        bytes.sum()
    }
}

/// Waits until `bytes` can be granted. Few are bounded by the number of those who have them.
async fn reserve(memory: &Arc<Semaphore>, bytes: usize, units_max: u32) -> Option<OwnedSemaphorePermit> {
    if bytes <= READ_BYTES_MIN {
        return None;
    }
    let units = (bytes / MEMORY_UNIT_BYTES).clamp(1, units_max as usize) as u32;
    let granted = memory.clone().acquire_many_owned(units).await;
    Some(granted.expect("the semaphore is never closed"))
}

fn idle(context: &Context) -> Duration {
    Duration::from_millis(context.settings.connections_max_idle_ms as u64)
}

/// Reads frames of a bounded size with few copies: a large frame is read right into its own place.
struct Reader {
    idle: Duration,
    context: Arc<Context>,
    stream: OwnedReadHalf,
    buffer: BytesMut,
}

impl Reader {
    fn new(context: &Arc<Context>, stream: OwnedReadHalf) -> Self {
        Self {
            idle: idle(context),
            context: context.clone(),
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame, without its length, and the memory that it was granted.
    async fn frame(&mut self) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Disconnect> {
        while self.buffer.len() < 4 {
            self.buffer.reserve(READ_BYTES_MIN);
            self.fill(usize::MAX, Instant::now() + self.idle).await?;
        }
        let announced = i32::from_be_bytes(self.buffer[..4].try_into().expect("four bytes"));
        if announced < 0 || announced > self.context.settings.socket_request_max_bytes {
            return Err(Disconnect::FrameSize(announced));
        }
        let length = announced as usize;
        let (memory, units) = (&self.context.request_memory, self.context.request_memory_units);
        let memory = reserve(memory, length, units).await;
        let begun = Instant::now();
        self.buffer.advance(4);
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
        }
        while self.buffer.len() < length {
            let missing = length - self.buffer.len();
            let mut deadline = Instant::now() + self.idle;
            if memory.is_some() {
                // Others wait for the memory: it is not granted to frames that trickle in.
                deadline = deadline.min(begun + Duration::from_millis(FRAME_MS_MAX));
            }
            // What follows a large frame is left in the socket: it would have to be moved to its own buffer.
            let bytes_max = if missing > READ_BYTES_MIN {
                missing
            } else {
                usize::MAX
            };
            self.fill(bytes_max, deadline).await?;
        }
        Ok((self.buffer.split_to(length).freeze(), memory))
    }

    async fn fill(&mut self, bytes_max: usize, deadline: Instant) -> Result<(), Disconnect> {
        let mut limited = (&mut self.buffer).limit(bytes_max);
        match tokio::time::timeout_at(deadline, self.stream.read_buf(&mut limited)).await {
            Err(_) => Err(Disconnect::Idle),
            Ok(Ok(0)) => Err(Disconnect::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
        }
    }
}

/// Sends responses in the order of their requests.
struct Writer {
    idle: Duration,
    context: Arc<Context>,
    stream: OwnedWriteHalf,
    /// Replies that are not sent yet.
    unsent: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        while let Some(Queued { reply, memory }) = queue.recv().await {
            let response = match reply {
                Reply::Now(response) => response,
                Reply::Later(waiting) => waiting.await,
                Reply::Nothing => continue,
            };
            match self.write(&response).await {
                Ok(bytes) => self.context.metrics.bytes_out(bytes),
                Err(error) => {
                    tracing::debug!(%error, "response not sent");
                    return;
                }
            }
            self.unsent.fetch_sub(1, Ordering::AcqRel);
            drop(memory);
        }
        let _ = self.stream.shutdown().await;
    }

    async fn write(&mut self, response: &Response) -> io::Result<usize> {
        let mut total = 0;
        let mut chunks = &response.chunks[..];
        while let Some(first) = chunks.first() {
            match first {
                Chunk::External { index, len } => {
                    let slice = &response.files[*index as usize];
                    debug_assert_eq!(slice.len, *len as usize);
                    self.send_file(slice).await?;
                    total += slice.len;
                    chunks = &chunks[1..];
                }
                Chunk::Bytes(_) => {
                    let run = chunks.iter().take_while(|c| matches!(c, Chunk::Bytes(_))).count();
                    let (these, rest) = chunks.split_at(run);
                    total += self.write_run(these, !rest.is_empty()).await?;
                    chunks = rest;
                }
            }
        }
        Ok(total)
    }

    /// Writes neighbouring chunks of memory with as few calls as they need.
    ///
    /// Where a file follows, the kernel is told to wait for it: a header alone would be a packet of its own, and wake
    /// the client for nothing.
    async fn write_run(&mut self, chunks: &[Chunk], file_follows: bool) -> io::Result<usize> {
        let parts = chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Bytes(bytes) => Some(IoSlice::new(bytes)),
            Chunk::External { .. } => None,
        });
        let mut slices: Vec<IoSlice<'_>> = parts.collect();
        let total = slices.iter().map(|slice| slice.len()).sum();
        let mut rest = &mut slices[..];
        let flags = if file_follows {
            SendFlags::MORE | SendFlags::NOSIGNAL
        } else {
            SendFlags::NOSIGNAL
        };
        let socket = self.stream.as_ref();
        while rest.iter().any(|slice| !slice.is_empty()) {
            in_time(self.idle, socket.writable()).await?;
            let written = socket.try_io(Interest::WRITABLE, || {
                let one_call = &rest[..rest.len().min(IO_SLICES_MAX)];
                sendmsg(socket, one_call, &mut SendAncillaryBuffer::default(), flags).map_err(io::Error::from)
            });
            match written {
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Lets the kernel copy from the page cache to the socket.
    ///
    /// Pages that are not in memory are fetched on a blocking thread first, so that a slow disk stalls this connection
    /// and no other.
    async fn send_file(&mut self, slice: &FileSlice) -> io::Result<()> {
        slice.load().await?;
        let socket = self.stream.as_ref();
        let mut position = slice.position;
        let end = slice.position + slice.len as u64;
        while position < end {
            in_time(self.idle, socket.writable()).await?;
            let left = (end - position) as usize;
            let sent = socket.try_io(Interest::WRITABLE, || {
                rustix::fs::sendfile(socket, slice.file.as_ref(), Some(&mut position), left)
                    .map_err(io::Error::from)
            });
            match sent {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "log file ends before its slice",
                    ));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What `work` gives, unless the client leaves what it was sent unread for too long.
async fn in_time<T>(idle: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(idle, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )),
    }
}

/// Unit in which the memory of requests is granted.
pub const MEMORY_UNIT_BYTES: usize = 1024;
/// Bytes that are read at once when it is not known how many will come.
const READ_BYTES_MIN: usize = 64 * 1024;
/// Longest time that a connection to a broker that hands over waits for a quiet moment.
const QUIET_WAIT: Duration = Duration::from_millis(250);
/// Pause between two looks whether there is one.
const QUIET_LOOK: Duration = Duration::from_millis(1);
/// How long a client may take to read what is still due when its connection ends.
const WRITE_LINGER_MS_MAX: u64 = 5_000;
/// Memory of the responses of one connection that wait to be sent, in units; one more may be under way. It is half of
/// the largest answer to a fetch at its default.
const REPLY_MEMORY_UNITS: u32 = 32 * 1024;
/// Most pieces of memory that one call takes (`IOV_MAX`).
const IO_SLICES_MAX: usize = 1024;
/// How long a frame that memory was granted to may take to arrive.
const FRAME_MS_MAX: u64 = 120_000;
