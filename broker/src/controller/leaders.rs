//! What only others know: the leader of the quorum, how far its members are; leaders of partitions, how far followers are.
//! It is asked of them for a moment, and missing where they do not answer.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_core::cluster::{Image, Topic};
use millstream_core::ids::{BrokerId, TopicId};
use millstream_quorum::QuorumStatus;
use tokio::task::JoinSet;

use super::cluster::Member;
use super::link::Link;
use super::messages::{Answer, FollowerLag, Followers, Request, decode, encode};
use crate::context::now_ms;
use crate::peer::CallKind;
use crate::topics::Topics;

impl Member {
    /// How the quorum is, as its leader sees it; as this broker does, where the leader does not answer.
    pub async fn status_by_leader(&self) -> QuorumStatus {
        let own = self.status();
        if self.is_leader() {
            return own;
        }
        let asked = self.ask_leader(&Request::Quorum);
        match tokio::time::timeout(WAIT, asked).await {
            Ok(Answer::Quorum(status)) => *status,
            _ => own,
        }
    }

    /// How far the followers of a topic's partitions are. Partitions whose leader does not answer are left out.
    pub async fn followers(&self, image: &Image, topic: &Topic) -> Followers {
        let mut asked = JoinSet::new();
        for leader in leaders_of(topic).filter(|leader| *leader != self.me) {
            let peer = image
                .brokers()
                .get(&leader)
                .and_then(|broker| broker.peer.clone());
            if let Some(address) = peer {
                asked.spawn(ask(self.link.clone(), leader, address, topic.id));
            }
        }
        let mut known = followers_of(self.in_force.topics(), topic.id);
        while let Some(told) = asked.join_next().await {
            known.extend(told.ok().flatten().unwrap_or_default());
        }
        known
    }
}

async fn ask(link: Link, leader: BrokerId, address: String, topic: TopicId) -> Option<Followers> {
    let request = encode(&Request::Followers(topic));
    let told = link.ask(leader.0 as u64, &address, CallKind::Submit, request, WAIT);
    match told.await.and_then(|answer| decode(&answer)) {
        Ok(Answer::Followers(followers)) => Some(followers),
        Ok(_) => None,
        Err(reason) => {
            tracing::debug!(
                leader = leader.0,
                reason,
                "a leader does not say how far its followers are"
            );
            None
        }
    }
}

fn leaders_of(topic: &Topic) -> impl Iterator<Item = BrokerId> {
    let leaders: BTreeSet<BrokerId> = topic.partitions.iter().filter_map(|p| p.leader).collect();
    leaders.into_iter()
}

/// How far the followers of those of a topic's partitions are that are led here.
pub fn followers_of(topics: &Topics, id: TopicId) -> Followers {
    let Ok(topic) = topics.find("", id.0) else {
        return Followers::new();
    };
    let now_ms = now_ms();
    let led = topic
        .stored_partitions()
        .filter(|partition| partition.is_leader());
    let followers = led.map(|partition| {
        let followers = partition.followers(now_ms).into_iter();
        let told = followers.map(|follower| FollowerLag {
            broker: follower.id,
            lag_records: follower.lag,
            lag_ms: follower.lag_ms,
        });
        (partition.index.0, told.collect())
    });
    followers.collect()
}

/// Longest time until another broker says what it knows.
const WAIT: Duration = Duration::from_secs(2);
