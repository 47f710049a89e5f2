//! One connection to one broker: pipelined requests, answers matched by correlation id, versions negotiated once.
//!
//! Two tasks own the socket, one for each direction. Everyone else holds a [`Connection`], which is a handle. A
//! connection that has seen one fault is of no more use: every call that waits fails with the reason, and so does
//! every later one; [`Client`](crate::Client) makes a new one.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millstream_kafka::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use millstream_kafka::header::{RequestHeader, ResponseHeader};
use millstream_kafka::wire::{Chunk, Message, Reader, Text, Writer};
use millstream_kafka::{ApiKey, ErrorCode, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::config::ClientConfig;
use crate::error::{Error, Result};

/// Handle to a connection. Clones share it; it closes when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: String,
    client_id: Text,
    request_timeout: Duration,
    /// Versions that the broker offers, by API key.
    offered: OnceLock<BTreeMap<i16, (i16, i16)>>,
    correlation: AtomicI32,
    slots: Arc<Semaphore>,
    outgoing: mpsc::Sender<Vec<Chunk>>,
    waiting: Arc<Waiting>,
    tasks: [AbortHandle; 2],
}

/// Calls that wait for an answer, and why none will come any more.
#[derive(Debug, Default)]
struct Waiting(Mutex<WaitingState>);

#[derive(Debug, Default)]
struct WaitingState {
    answers: HashMap<i32, Expected>,
    ended: Option<String>,
}

/// A call that was sent. Its slot is free again when the answer is here, whether or not someone still wants it.
#[derive(Debug)]
struct Expected {
    answer: oneshot::Sender<Bytes>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// Connects and asks for the versions that the broker speaks.
    ///
    /// # Errors
    /// No connection within the time, or a peer that does not speak Kafka's protocol.
    pub async fn open(address: &str, config: &ClientConfig) -> Result<Self> {
        let failed = |reason: String| Error::Connect {
            address: address.to_owned(),
            reason,
        };
        let stream = tokio::time::timeout(config.connect_timeout, TcpStream::connect(address))
            .await
            .map_err(|_| {
                failed(format!(
                    "no answer within {} ms",
                    config.connect_timeout.as_millis()
                ))
            })?
            .map_err(|error| failed(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let (from, to) = stream.into_split();
        let (outgoing, queue) = mpsc::channel(config.in_flight_max);
        let waiting = Arc::new(Waiting::default());
        let reader = tokio::spawn(read_answers(from, config.response_bytes_max, waiting.clone()));
        let writer = tokio::spawn(write_requests(to, queue, waiting.clone()));
        let connection = Self {
            inner: Arc::new(Inner {
                address: address.to_owned(),
                client_id: Text::from(config.client_id.as_str()),
                request_timeout: config.request_timeout,
                offered: OnceLock::new(),
                correlation: AtomicI32::new(0),
                slots: Arc::new(Semaphore::new(config.in_flight_max)),
                outgoing,
                waiting,
                tasks: [reader.abort_handle(), writer.abort_handle()],
            }),
        };
        let offered = connection.negotiate(config.connect_timeout).await?;
        connection
            .inner
            .offered
            .set(offered)
            .expect("versions are set once, here");
        Ok(connection)
    }

    /// Host and port of the broker.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.inner.waiting.state().ended.is_some()
    }

    /// Range of versions that the broker offers of an API, by the API's number.
    pub fn offered(&self) -> impl Iterator<Item = (i16, RangeInclusive<i16>)> + '_ {
        self.inner
            .offered
            .get()
            .into_iter()
            .flatten()
            .map(|(key, (min, max))| (*key, *min..=*max))
    }

    /// The newest version of `R` that both sides speak and that is not above `version_max`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is none.
    pub fn version<R: Request>(&self, version_max: i16) -> Result<i16> {
        let unsupported = || Error::Unsupported {
            api: R::KEY.name(),
            address: self.inner.address.clone(),
        };
        let offered = self.inner.offered.get().and_then(|all| all.get(&(R::KEY as i16)));
        let (min, max) = *offered.ok_or_else(unsupported)?;
        let version = max.min(*R::VERSIONS.end()).min(version_max);
        if version < min || version < *R::VERSIONS.start() {
            Err(unsupported())
        } else {
            Ok(version)
        }
    }

    /// Sends a request in the newest version that both sides speak, and waits for the answer.
    ///
    /// # Errors
    /// Every [`Error`] of the connection; error codes inside the answer are the caller's.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response> {
        let version = self.version::<R>(i16::MAX)?;
        self.call_at(version, request, self.inner.request_timeout).await
    }

    /// Sends a request in a given version and waits up to `limit` for the answer.
    ///
    /// A connection that let the time pass is ended: what it may still answer would come too late for everyone.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn call_at<R: Request>(
        &self,
        version: i16,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response> {
        let frame = self.exchange(version, request, limit).await?;
        self.read_answer::<R>(version, frame)
    }

    /// Sends a request that is not answered: Produce with `acks=0`.
    ///
    /// # Errors
    /// The connection has ended, or the request does not fit the version.
    pub async fn send<R: Request>(&self, version: i16, request: &R) -> Result<()> {
        let correlation = self.inner.correlation.fetch_add(1, Ordering::Relaxed);
        let chunks = self.encode(version, request, correlation)?;
        self.inner.outgoing.send(chunks).await.map_err(|_| self.ended())
    }

    async fn exchange<R: Request>(&self, version: i16, request: &R, limit: Duration) -> Result<Bytes> {
        let exchange = async {
            let slot = self
                .inner
                .slots
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let correlation = self.inner.correlation.fetch_add(1, Ordering::Relaxed);
            let chunks = self.encode(version, request, correlation)?;
            let (answer, arrives) = oneshot::channel();
            {
                let mut state = self.inner.waiting.state();
                if state.ended.is_some() {
                    drop(state);
                    return Err(self.ended());
                }
                state
                    .answers
                    .insert(correlation, Expected { answer, _slot: slot });
            }
            self.inner.outgoing.send(chunks).await.map_err(|_| self.ended())?;
            arrives.await.map_err(|_| self.ended())
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(done) => done,
            Err(_) => {
                self.inner
                    .waiting
                    .end(format!("{} was not answered in time", R::KEY.name()));
                let what = format!("{} to {}", R::KEY.name(), self.inner.address);
                Err(Error::TimedOut {
                    what,
                    limit_ms: limit.as_millis() as u64,
                })
            }
        }
    }

    fn encode<R: Request>(&self, version: i16, request: &R, correlation_id: i32) -> Result<Vec<Chunk>> {
        let invalid = |reason: String| Error::Encode {
            api: R::KEY.name(),
            reason,
        };
        let header = RequestHeader {
            api_key: R::KEY as i16,
            api_version: version,
            correlation_id,
            client_id: Some(self.inner.client_id.clone()),
        };
        let mut writer = Writer::new();
        header.encode(&mut writer).map_err(|e| invalid(e.to_string()))?;
        request
            .encode(&mut writer, version)
            .map_err(|e| invalid(e.to_string()))?;
        Ok(writer.finish())
    }

    fn read_answer<R: Request>(&self, version: i16, frame: Bytes) -> Result<R::Response> {
        let malformed = |reason: String| {
            self.inner
                .waiting
                .end(format!("its answer to {} is unreadable", R::KEY.name()));
            Error::Malformed {
                api: R::KEY.name(),
                address: self.inner.address.clone(),
                reason,
            }
        };
        let mut reader = Reader::new(frame);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version))
            .map_err(|e| malformed(e.to_string()))?;
        R::Response::decode(&mut reader, version).map_err(|e| malformed(e.to_string()))
    }

    /// Asks which versions there are (KIP-35). A broker that does not know our version answers in version 0 and
    /// says which it knows (KIP-511).
    async fn negotiate(&self, limit: Duration) -> Result<BTreeMap<i16, (i16, i16)>> {
        let request = ApiVersionsRequest {
            client_software_name: Text::from("millstream"),
            client_software_version: Text::from(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let mut version = *ApiVersionsRequest::VERSIONS.end();
        loop {
            let frame = self.exchange(version, &request, limit).await?;
            // The error code comes first in every version, right after the correlation id.
            let refused = frame.get(4..6) == Some(&(ErrorCode::UnsupportedVersion as i16).to_be_bytes());
            let answer = self.read_answer::<ApiVersionsRequest>(if refused { 0 } else { version }, frame)?;
            if refused && version > 0 {
                version = answer
                    .api_keys
                    .iter()
                    .find(|api| api.api_key == ApiKey::ApiVersions as i16)
                    .map_or(0, |api| api.max_version.clamp(0, version - 1));
                continue;
            }
            return self.read_versions(answer);
        }
    }

    fn read_versions(&self, answer: ApiVersionsResponse) -> Result<BTreeMap<i16, (i16, i16)>> {
        Error::check(answer.error_code, None, || {
            format!("{} refused to tell its versions", self.inner.address)
        })?;
        Ok(answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect())
    }

    fn ended(&self) -> Error {
        let reason = self
            .inner
            .waiting
            .state()
            .ended
            .clone()
            .unwrap_or_else(|| "it was closed".to_owned());
        Error::Disconnected {
            address: self.inner.address.clone(),
            reason,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, WaitingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails every call that waits, and every later one. The first reason stays.
    fn end(&self, reason: String) {
        let mut state = self.state();
        state.ended.get_or_insert(reason);
        state.answers.clear();
    }
}

async fn write_requests(
    stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<Chunk>>,
    waiting: Arc<Waiting>,
) {
    let mut stream = BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream);
    while let Some(chunks) = queue.recv().await {
        let written = async {
            write_frame(&mut stream, &chunks).await?;
            // Requests that are ready now leave together.
            if queue.is_empty() {
                stream.flush().await
            } else {
                Ok(())
            }
        };
        if let Err(error) = written.await {
            return waiting.end(error.to_string());
        }
    }
}

async fn write_frame(stream: &mut BufWriter<OwnedWriteHalf>, chunks: &[Chunk]) -> std::io::Result<()> {
    let parts = || {
        chunks.iter().map(|chunk| match chunk {
            Chunk::Bytes(bytes) => bytes,
            Chunk::External { .. } => unreachable!("only a broker encodes bytes that lie in a file"),
        })
    };
    let length: usize = parts().map(Bytes::len).sum();
    let length =
        i32::try_from(length).map_err(|_| std::io::Error::other("a request is larger than 2 GiB"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    for bytes in parts() {
        stream.write_all(bytes).await?;
    }
    Ok(())
}

async fn read_answers(mut stream: OwnedReadHalf, bytes_max: usize, waiting: Arc<Waiting>) {
    let mut buffer = BytesMut::new();
    loop {
        let frame = match read_frame(&mut stream, &mut buffer, bytes_max).await {
            Ok(frame) => frame,
            Err(error) => return waiting.end(error.to_string()),
        };
        let Some(id) = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)) else {
            return waiting.end("an answer is too short".to_owned());
        };
        let Some(expected) = waiting.state().answers.remove(&id) else {
            return waiting.end(format!("an answer came to a question that was not asked ({id})"));
        };
        // Whoever asked may have gone away: then the answer is dropped.
        let _ = expected.answer.send(frame);
    }
}

/// The next frame without its length. Memory is taken as bytes arrive, not as the length promises.
async fn read_frame(
    stream: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> std::io::Result<Bytes> {
    let mut length = None;
    loop {
        if length.is_none() && buffer.len() >= 4 {
            let announced = i32::from_be_bytes(buffer.split_to(4)[..].try_into().expect("four bytes"));
            match usize::try_from(announced) {
                Ok(announced) if announced <= bytes_max => length = Some(announced),
                // The likeliest mistake: the broker's other address.
                _ if announced.to_be_bytes() == *b"HTTP" => {
                    return Err(std::io::Error::other("it speaks HTTP, not Kafka's protocol"));
                }
                _ => {
                    return Err(std::io::Error::other(format!(
                        "an answer of {announced} bytes was announced"
                    )));
                }
            }
        }
        if let Some(length) = length {
            if buffer.len() >= length {
                return Ok(buffer.split_to(length).freeze());
            }
            buffer.reserve((length - buffer.len()).min(READ_BYTES_MAX));
        } else {
            buffer.reserve(READ_BYTES_MIN);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::Error::other("the broker closed it"));
        }
    }
}

/// Small requests are gathered up to this size; larger ones pass by.
const WRITE_BUFFER_BYTES: usize = 32 * 1024;
/// Memory made ready for an answer of unknown size.
const READ_BYTES_MIN: usize = 32 * 1024;
/// Most memory made ready at a time for an answer that announced its size.
const READ_BYTES_MAX: usize = 4 << 20;
