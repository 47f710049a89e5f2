//! A connection to another broker, dialled when it is needed, and the calls over it.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

use super::certificates::Certificates;
use super::{CallKind, Class, Known, PeerError, PeerStats, REPLICATION, frame, tls};

/// The way to one broker for one class.
#[derive(Default)]
pub struct Link {
    open: RwLock<Option<Connection>>,
    /// One dials at a time; who waits uses what it got.
    dialling: tokio::sync::Mutex<Option<Failed>>,
}

/// A dial that came to nothing.
struct Failed {
    at: Instant,
    address: String,
    reason: String,
}

impl Link {
    /// The connection, if it is open.
    pub fn open(&self) -> Option<Connection> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone()
            .filter(|connection| connection.close_reason().is_none())
    }

    /// The connection, dialled if there is none.
    pub async fn connection(
        &self,
        endpoint: &Endpoint,
        certificates: &Arc<Certificates>,
        to: BrokerId,
        known: &Known,
        class: Class,
    ) -> Result<Connection, PeerError> {
        if let Some(connection) = self.open() {
            return Ok(connection);
        }
        let mut failed = self.dialling.lock().await;
        if let Some(connection) = self.open() {
            return Ok(connection);
        }
        // Whoever waited behind a dial that failed does not wait for another one.
        if let Some(last) = &*failed
            && last.at.elapsed() < DIAL_AGAIN_AFTER
            && last.address == known.address
        {
            return Err(PeerError::Connect {
                to: format!("broker {to} at {}", known.address),
                reason: last.reason.clone(),
            });
        }
        match connect(endpoint, certificates, Some(to), &known.address, class).await {
            Ok(connection) => {
                *failed = None;
                *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                *failed = Some(Failed {
                    at: Instant::now(),
                    address: known.address.clone(),
                    reason: match &error {
                        PeerError::Connect { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    },
                });
                Err(error)
            }
        }
    }

    /// Ends the connection.
    pub fn close(&self) {
        if let Some(connection) = self.open() {
            connection.close(super::CLOSE_DONE, b"the broker was removed");
        }
    }

    /// How the connection is doing.
    pub fn stats(&self, id: BrokerId, class: Class, connection: &Connection) -> PeerStats {
        let path = connection.stats().path;
        PeerStats {
            id,
            class,
            rtt: path.rtt,
            lost_packets: path.lost_packets,
            congestion_window: path.cwnd,
        }
    }
}

/// Dials an address.
///
/// # Errors
/// It cannot be resolved, nobody is there, or it is somebody else.
pub async fn connect(
    endpoint: &Endpoint,
    certificates: &Arc<Certificates>,
    wanted: Option<BrokerId>,
    address: &str,
    class: Class,
) -> Result<Connection, PeerError> {
    let to = match wanted {
        Some(id) => format!("broker {id} at {address}"),
        None => address.to_owned(),
    };
    let failed = |reason: String| PeerError::Connect {
        to: to.clone(),
        reason,
    };
    let resolved = resolve(address, endpoint).await?;
    let config = tls::client(certificates, wanted, class).map_err(failed)?;
    // The name is not what is checked (`tls.rs`); it must only be one.
    let connecting = endpoint
        .connect_with(config, resolved, SERVER_NAME)
        .map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(DIAL_MAX, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(explain(&error))),
        Err(_) => Err(failed(format!("nobody answers within {DIAL_MAX:?}"))),
    }
}

/// Why a connection ended, without the words of three layers around it.
fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TimedOut => "nobody answers".to_owned(),
        ConnectionError::TransportError(error) => tls::told(&error.reason).to_owned(),
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            format!("it is refused over there: {}", tls::told(&reason))
        }
        ConnectionError::ApplicationClosed(close) => {
            format!(
                "it was closed over there: {}",
                String::from_utf8_lossy(&close.reason)
            )
        }
        other => other.to_string(),
    }
}

async fn resolve(address: &str, endpoint: &Endpoint) -> Result<SocketAddr, PeerError> {
    let wrong = || PeerError::Address(address.to_owned());
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let found = tokio::net::lookup_host(address).await.map_err(|_| wrong())?;
    let is_ipv4 = endpoint.local_addr().is_ok_and(|local| local.is_ipv4());
    let mut found = found.filter(|address| address.is_ipv4() == is_ipv4);
    found.next().ok_or_else(wrong)
}

/// One call: the request on a stream of its own, and the answer.
pub async fn call(
    connection: &Connection,
    kind: CallKind,
    request: &Bytes,
    to: &str,
) -> Result<Bytes, PeerError> {
    if request.len() > kind.bytes_max() {
        return Err(PeerError::TooLarge {
            bytes: request.len(),
            max: kind.bytes_max(),
        });
    }
    let (mut send, mut recv) = connection
        .open_bi()
        .await
        .map_err(|error| broken(connection, to, error))?;
    frame::write(&mut send, kind.code(), request.clone())
        .await
        .map_err(|error| broken(connection, to, error))?;
    let status = frame::what(&mut recv).await;
    let status = status.map_err(|error| broken(connection, to, error))?;
    let answer = frame::body(&mut recv, kind.bytes_max()).await;
    let answer = answer.map_err(|error| broken(connection, to, error))?;
    match status {
        STATUS_DONE => Ok(answer),
        _ => Err(PeerError::Refused {
            to: to.to_owned(),
            reason: String::from_utf8_lossy(&answer).into_owned(),
        }),
    }
}

/// A call came to nothing: because the connection ended, which says more than what its stream says; or else the stream.
fn broken(connection: &Connection, to: &str, error: impl std::fmt::Display) -> PeerError {
    let ended = connection.close_reason();
    PeerError::Broken {
        to: to.to_owned(),
        reason: ended.map_or_else(|| error.to_string(), |ended| explain(&ended)),
    }
}

/// Begins a stream of replication.
pub async fn open_replication(
    connection: &Connection,
    to: &str,
) -> Result<(SendStream, RecvStream), PeerError> {
    let (mut send, recv) = connection
        .open_bi()
        .await
        .map_err(|error| broken(connection, to, error))?;
    send.write_all(&[REPLICATION])
        .await
        .map_err(|error| broken(connection, to, error))?;
    Ok((send, recv))
}

/// The call was served; the answer follows.
pub const STATUS_DONE: u8 = 0;
/// It was not; the reason follows.
pub const STATUS_FAILED: u8 = 1;
/// Longest time until the other side has answered a dial.
const DIAL_MAX: Duration = Duration::from_millis(1500);
/// A dial that failed is what those hear who ask within this time.
const DIAL_AGAIN_AFTER: Duration = Duration::from_millis(100);
const SERVER_NAME: &str = "peer.millstream.internal";
