//! What other brokers dial: connections, and on each of them calls and streams of replication.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use tokio::sync::watch;

use super::frame::{self, FrameError};
use super::link::{STATUS_DONE, STATUS_FAILED};
use super::rarely::Rarely;
use super::{CLOSE_GARBAGE, CallKind, REPLICATION, Service, tls};

/// Takes connections until `shutdown` is true.
pub async fn accept(endpoint: Endpoint, service: Arc<dyn Service>, mut shutdown: watch::Receiver<bool>) {
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = shutdown.wait_for(|down| *down) => return,
        };
        let Some(incoming) = incoming else { return };
        if endpoint.open_connections() > CONNECTIONS_MAX {
            if let Some(left_out) = REFUSED.tells("connections", Instant::now()) {
                tracing::warn!(from = %incoming.remote_address(), left_out, "too many connections of brokers; one is refused");
            }
            incoming.refuse();
            continue;
        }
        tokio::spawn(connection(incoming, service.clone()));
    }
}

async fn connection(incoming: Incoming, service: Arc<dyn Service>) {
    let from = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            if !tls::shows_no_certificate(&error) {
                // A certificate that is refused is told of where that is found out.
                tracing::debug!(%from, %error, "no connection with a broker comes about");
            } else if let Some(left_out) = REFUSED.tells("certificate", Instant::now()) {
                tracing::warn!(%from, left_out, "a caller that shows no certificate is refused");
            }
            return;
        }
    };
    let Some(identity) = tls::identity_of(&connection) else {
        connection.close(CLOSE_GARBAGE, b"no certificate");
        return;
    };
    tracing::debug!(%from, node = identity.node.0, "a broker is connected");
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(stream(
            connection.clone(),
            identity.node,
            send,
            recv,
            service.clone(),
        ));
    }
}

async fn stream(
    connection: Connection,
    from: BrokerId,
    send: SendStream,
    mut recv: RecvStream,
    service: Arc<dyn Service>,
) {
    let Ok(Ok(kind)) = tokio::time::timeout(REQUEST_WAIT, frame::what(&mut recv)).await else {
        return;
    };
    match (kind, CallKind::from_code(kind)) {
        (REPLICATION, _) => service.replication(from, send, recv).await,
        (_, Some(kind)) => call(&connection, from, kind, send, recv, service).await,
        (code, None) => {
            if let Some(left_out) = REFUSED.tells(&format!("kind of {from}"), Instant::now()) {
                tracing::warn!(
                    node = from.0,
                    code,
                    left_out,
                    "a broker says what nobody understands; the connection is closed"
                );
            }
            connection.close(CLOSE_GARBAGE, b"unknown kind of stream");
        }
    }
}

async fn call(
    connection: &Connection,
    from: BrokerId,
    kind: CallKind,
    mut send: SendStream,
    mut recv: RecvStream,
    service: Arc<dyn Service>,
) {
    let reading = frame::body(&mut recv, kind.bytes_max());
    let request = match tokio::time::timeout(REQUEST_WAIT, reading).await {
        Ok(Ok(request)) => request,
        Ok(Err(FrameError::TooLarge { length, max })) => {
            if let Some(left_out) = REFUSED.tells(&format!("size of {from}"), Instant::now()) {
                tracing::warn!(
                    node = from.0,
                    ?kind,
                    length,
                    max,
                    left_out,
                    "a call of a broker is too large; the connection is closed"
                );
            }
            connection.close(CLOSE_GARBAGE, b"a call is too large");
            return;
        }
        // Given up by the one who called; or it says nothing more, and its stream is needed for others.
        Ok(Err(FrameError::Ended | FrameError::Stream(_))) | Err(_) => return,
    };
    let (status, answer) = match service.call(from, kind, request).await {
        Ok(answer) if answer.len() <= kind.bytes_max() => (STATUS_DONE, answer),
        Ok(_) => (STATUS_FAILED, Bytes::from_static(b"the answer is too large")),
        Err(mut reason) => {
            let mut end = reason.len().min(REASON_BYTES_MAX);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            reason.truncate(end);
            (STATUS_FAILED, Bytes::from(reason))
        }
    };
    // Who asked may have gone.
    let _ = frame::write(&mut send, status, answer).await;
}

/// Who is refused comes again.
static REFUSED: Rarely = Rarely::new();
/// Connections of brokers at a time: two each way with each of a hundred others, and some that are ending.
const CONNECTIONS_MAX: usize = 1000;
/// Longest time that a request may take to arrive, once its stream is there.
const REQUEST_WAIT: Duration = Duration::from_secs(60);
/// Longest text that says why a call failed: it fits in the answer of any call.
const REASON_BYTES_MAX: usize = 16 << 10;
