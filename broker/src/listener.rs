//! Accepts Kafka clients: bounds how many there are, in all and from one address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use millstream_kafka::wire::Text;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connection::{self, ConnectionInfo};
use crate::context::Context;
use crate::lanes::Lanes;

/// Accepts connections until the broker shuts down, then waits for them to end.
pub async fn serve(context: Arc<Context>, listener: TcpListener, lanes: Arc<Lanes>) {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let mut connections = JoinSet::new();
    let mut shutdown = context.shutdown.subscribe();
    let mut next_id = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = shutdown.wait_for(|down| *down) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those that end make room.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = Place::take(&counts, &context, peer.ip()) else {
            tracing::warn!(%peer, "connection refused: too many");
            continue;
        };
        if let Err(error) = tune(&stream) {
            tracing::debug!(%peer, %error, "cannot set socket options");
        }
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, %error, "connection lost at once");
                continue;
            }
        };
        next_id += 1;
        let info = ConnectionInfo {
            id: next_id,
            peer,
            client_id: Text::default(),
        };
        let context = context.clone();
        let berth = lanes.berth();
        let lane = berth.handle().clone();
        let serving = async move {
            context.metrics.connections.inc();
            // From here on the poller of its lane watches the socket.
            match TcpStream::from_std(stream) {
                Ok(stream) => connection::serve(context.clone(), stream, info).await,
                Err(error) => tracing::warn!(%peer, %error, "connection refused"),
            }
            context.metrics.connections.dec();
            drop((place, berth));
        };
        connections.spawn_on(serving, &lane);
    }
    while connections.join_next().await.is_some() {}
}

/// Binds a listener.
///
/// # Errors
/// The address cannot be resolved or is in use.
pub async fn bind(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    let local = listener.local_addr()?;
    Ok((listener, local))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_keepalive(true)
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the connections; given back when dropped.
struct Place {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
}

impl Place {
    fn take(counts: &Arc<Mutex<Counts>>, context: &Context, address: IpAddr) -> Option<Self> {
        let mut held = counts.lock().expect("no panic while counting");
        let of_address = held.by_address.get(&address).copied().unwrap_or(0);
        if held.total >= context.settings.max_connections as usize
            || of_address >= context.settings.max_connections_per_ip as usize
        {
            return None;
        }
        held.total += 1;
        held.by_address.insert(address, of_address + 1);
        Some(Self {
            counts: counts.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.counts.lock().expect("no panic while counting");
        held.total -= 1;
        if let Some(count) = held.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.by_address.remove(&self.address);
            }
        }
    }
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
