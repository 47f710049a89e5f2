//! The ways to the other nodes of the quorum: where they are, as the image says, or as they were named before there was
//! one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::cluster::Image;
use millstream_core::ids::BrokerId;
use millstream_quorum::Transport;

use crate::peer::{CallKind, Peers};

/// The ways to the other nodes of the quorum.
#[derive(Clone)]
pub struct Link {
    me: BrokerId,
    peers: Arc<Peers>,
    known: Arc<Mutex<BTreeMap<u64, String>>>,
}

impl Link {
    pub(super) fn new(me: BrokerId, peers: Arc<Peers>) -> Self {
        Self {
            me,
            peers,
            known: Arc::default(),
        }
    }

    /// The ways themselves.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// A node is reached at this address, as long as the image does not say otherwise.
    pub fn learn(&self, id: u64, address: &str) {
        let Some(broker) = broker_id(id).filter(|broker| *broker != self.me) else {
            return;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&id) && !address.is_empty() {
            known.insert(id, address.to_owned());
            self.peers.set_address(broker, Some(address.to_owned()), None);
        }
    }

    /// The image says where brokers are.
    pub(super) fn know(&self, image: &Image) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for broker in image.brokers().values().filter(|broker| broker.id != self.me) {
            let id = broker.id.0 as u64;
            if let Some(address) = &broker.peer
                && known.get(&id) != Some(address)
            {
                known.insert(id, address.clone());
                self.peers
                    .set_address(broker.id, Some(address.clone()), broker.fingerprint.clone());
            }
        }
    }

    pub(super) async fn ask(
        &self,
        id: u64,
        address: &str,
        kind: CallKind,
        request: Bytes,
        wait: Duration,
    ) -> Result<Bytes, String> {
        let broker = broker_id(id).ok_or_else(|| format!("{id} is no broker's id"))?;
        self.learn(id, address);
        let called = self.peers.call(broker, kind, request, wait).await;
        called.map_err(|error| error.to_string())
    }
}

impl Transport for Link {
    async fn call(&self, target: u64, address: &str, request: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let called = self.ask(target, address, CallKind::Quorum, request.into(), QUORUM_WAIT);
        let answer = called.await.map_err(std::io::Error::other)?;
        Ok(answer.into())
    }
}

/// The broker of a node of the quorum.
pub(super) fn broker_id(id: u64) -> Option<BrokerId> {
    i32::try_from(id).ok().map(BrokerId)
}

/// Longest time until a node of the quorum answers another one.
const QUORUM_WAIT: Duration = Duration::from_secs(5);
