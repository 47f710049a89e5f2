//! Whether a broker that comes back is still of the cluster.
//!
//! A broker that was removed while it was down is told nothing any more: its own disk says that it is a member, and
//! that some broker leads. So it asks all brokers that it knows of, until the one that leads says what it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_core::ids::BrokerId;
use tokio::task::JoinSet;

use super::cluster::Member;
use super::entry::Way;
use super::messages::{Answer, Request, Standing, decode, encode};
use crate::peer::CallKind;

impl Member {
    /// Whether a broker follows the quorum, as far as this one knows.
    pub(super) fn membership(&self, id: BrokerId) -> Standing {
        let status = self.status();
        let mut members = status.voters.iter().chain(&status.learners);
        match members.any(|member| member.id == id.0 as u64) {
            true => Standing::Member,
            false => Standing::Stranger,
        }
    }

    /// Resolves once it is certain that the cluster has removed this broker. What a single answer says might be of a
    /// moment before it joined.
    pub(super) async fn removed(&self, way: &Way) {
        let mut since: Option<Instant> = None;
        loop {
            tokio::time::sleep(ASK_AGAIN).await;
            let Some(standing) = self.ask_all(way).await else {
                continue;
            };
            since = (standing == Standing::Stranger).then(|| since.unwrap_or_else(Instant::now));
            if since.is_some_and(|since| since.elapsed() >= CERTAIN_AFTER) {
                return;
            }
        }
    }

    /// What the quorum's leader says, if it is among the brokers that this one knows of or the quorum's leader is known
    /// to one of them.
    async fn ask_all(&self, way: &Way) -> Option<Standing> {
        let image = self.decided();
        let others = image.brokers().values().filter(|broker| broker.id != self.me);
        let mut addresses: BTreeSet<String> = others.filter_map(|broker| broker.peer.clone()).collect();
        match way {
            Way::Begin(voters) => {
                let others = voters.iter().filter(|(id, _)| **id != self.me);
                addresses.extend(others.map(|(_, address)| address.clone()));
            }
            Way::Join(whom) => drop(addresses.insert(whom.clone())),
            Way::Resume => {}
        }
        let mut asking = JoinSet::new();
        for address in addresses.iter().cloned() {
            asking.spawn(ask(self.link.peers().clone(), address));
        }
        while let Some(answered) = asking.join_next().await {
            match answered {
                Ok(Some(Answer::Standing(standing))) => return Some(standing),
                Ok(Some(Answer::NotLeader(Some((_, address))))) if addresses.insert(address.clone()) => {
                    asking.spawn(ask(self.link.peers().clone(), address));
                }
                _ => {}
            }
        }
        None
    }
}

async fn ask(peers: std::sync::Arc<crate::peer::Peers>, address: String) -> Option<Answer> {
    let request = encode(&Request::Membership);
    let called = peers
        .call_address(&address, CallKind::Submit, request, ANSWER_WAIT)
        .await;
    decode(&called.ok()?.1).ok()
}

/// Pause before all are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest time until a broker answers.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long the answer has to be the same.
const CERTAIN_AFTER: Duration = Duration::from_secs(1);
