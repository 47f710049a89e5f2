//! Notices that another broker's process has ended, long before its silence says so.
//!
//! When a process dies, its kernel closes its sockets, and answers what still comes for them: an ICMP message that nobody
//! listens on that port (RFC 1122, 4.1.3.1), which a connected UDP socket reports as a refused connection. So a byte is
//! sent to the peer's port now and then; a QUIC endpoint drops such a datagram unread. A host that is down, a process
//! that stands still and a network that drops ICMP say nothing: then the lease runs out, as it would without this.
//!
//! A forged message can at worst have a live broker fenced, or an election held, and that it can do again and again is no
//! more than whoever can forge packets can do anyway. Nothing that was acknowledged depends on it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use millstream_core::ids::BrokerId;
use tokio::net::{UdpSocket, lookup_host};

use super::cluster::Member;

impl Member {
    /// Looks after the others as long as the broker runs: whoever leads the quorum after all, the others after the leader.
    pub async fn probe(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut probes: BTreeMap<BrokerId, Probe> = BTreeMap::new();
        loop {
            let watched = self.watched();
            probes.retain(|id, probe| {
                watched
                    .iter()
                    .any(|(other, address)| other == id && *address == probe.address)
            });
            for (id, address) in watched {
                probes.entry(id).or_insert_with(|| Probe::new(address));
            }
            for id in gone(&mut probes).await {
                self.is_gone(id);
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.look_now.notified() => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Brokers that this one looks after, and where they are reached by others.
    fn watched(&self) -> Vec<(BrokerId, String)> {
        let image = self.decided();
        let leads = self.leader() == Some(self.me);
        let is_watched = |id: BrokerId| id != self.me && (leads || self.leader() == Some(id));
        let brokers = image.brokers().values().filter(|broker| is_watched(broker.id));
        brokers
            .filter_map(|broker| Some((broker.id, broker.peer.clone()?)))
            .collect()
    }

    fn is_gone(&self, id: BrokerId) {
        if self.leader() == Some(id) {
            tracing::debug!(leader = id.0, "the process of the quorum's leader has ended");
            self.quorum.lost(id.0 as u64);
        }
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.lose(id) {
            tracing::info!(broker = id.0, "its process has ended");
            self.alarm.notify_one();
        }
    }
}

/// Asks all of them, and gives those where nobody listened twice in a row: one message may have been for an earlier
/// process.
async fn gone(probes: &mut BTreeMap<BrokerId, Probe>) -> Vec<BrokerId> {
    let mut suspects: Vec<_> = probes.keys().copied().collect();
    for _ in 0..2 {
        for id in &suspects {
            if let Some(probe) = probes.get_mut(id) {
                probe.ask().await;
            }
        }
        if !suspects.is_empty() {
            tokio::time::sleep(ANSWER_WAIT).await;
        }
        suspects.retain(|id| probes.get_mut(id).is_some_and(|probe| probe.was_refused()));
    }
    suspects
}

/// What asks whether anybody listens at an address.
struct Probe {
    address: String,
    socket: Option<UdpSocket>,
}

impl Probe {
    fn new(address: String) -> Self {
        Self {
            address,
            socket: None,
        }
    }

    async fn ask(&mut self) {
        if self.socket.is_none() {
            self.socket = connect(&self.address).await.ok();
        }
        let Some(socket) = &self.socket else { return };
        match socket.try_send(&[0]) {
            // A refusal of the question before: asked again, for it was not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => drop(socket.try_send(&[0])),
            // The name may lead elsewhere by now, or the way there have changed.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.socket = None,
            _ => {}
        }
    }

    /// Whether the last question was refused.
    fn was_refused(&mut self) -> bool {
        let error = self
            .socket
            .as_ref()
            .and_then(|socket| socket.take_error().ok().flatten());
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

async fn connect(address: &str) -> io::Result<UdpSocket> {
    let found = tokio::time::timeout(LOOKUP_WAIT, lookup_host(address))
        .await??
        .next();
    let address = found.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// How often is asked.
const EVERY: Duration = Duration::from_millis(30);
/// How long an answer is waited for: there is none when all is well.
const ANSWER_WAIT: Duration = Duration::from_millis(5);
/// Longest time that the name of a host is looked up.
const LOOKUP_WAIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_any_more_is_noticed_and_one_that_comes_back_too() {
        let [one, other] = [1, 2].map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = one.local_addr().unwrap();
        let probe = |socket: &std::net::UdpSocket| Probe::new(socket.local_addr().unwrap().to_string());
        let mut probes = BTreeMap::from([(BrokerId(1), probe(&one)), (BrokerId(2), probe(&other))]);
        for _ in 0..3 {
            assert!(gone(&mut probes).await.is_empty());
        }
        drop(one);
        for _ in 0..2 {
            assert_eq!(gone(&mut probes).await, [BrokerId(1)]);
        }
        let _one = std::net::UdpSocket::bind(address).unwrap();
        for _ in 0..3 {
            assert!(gone(&mut probes).await.is_empty());
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_says_nothing_of_the_broker() {
        let mut probes = BTreeMap::from([(BrokerId(1), Probe::new("nowhere.invalid:9".to_owned()))]);
        assert!(gone(&mut probes).await.is_empty());
    }
}
