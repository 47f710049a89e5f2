//! What a node of the quorum knows of it.

use openraft::{RaftMetrics, ServerState};
use serde::{Deserialize, Serialize};

type Metrics = RaftMetrics<u64, openraft::BasicNode>;

/// What a node knows of the quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    /// The node that says so.
    pub id: u64,
    /// What it is.
    pub state: QuorumState,
    /// Its term: grows with every election.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// Nodes that vote.
    pub voters: Vec<Member>,
    /// Nodes that follow without a vote.
    pub learners: Vec<Member>,
    /// Index of the last entry of its log.
    pub last_log: u64,
    /// Index of the last entry that is in its image.
    pub applied: u64,
    /// Index of the last entry that its snapshot holds.
    pub snapshot: Option<u64>,
    /// On a leader: milliseconds since a majority last answered it. A leader that nobody answers decides nothing.
    pub since_quorum_ack_ms: Option<u64>,
}

/// A node of the quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where it is reached.
    pub address: String,
    /// Index of the last entry that it has on its disk; only a leader knows.
    pub matched: Option<u64>,
    /// Entries that it lacks; only a leader knows.
    pub lag: Option<u64>,
}

/// What a node is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuorumState {
    /// It follows without a vote.
    Learner,
    /// It follows.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It leads.
    Leader,
    /// It stopped, for good.
    Stopped,
}

/// Who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// In which term.
    pub term: u64,
    /// The leader and its address; none while nobody is known to lead.
    pub leader: Option<(u64, String)>,
    /// Whether it is this node.
    pub is_me: bool,
}

impl QuorumStatus {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let membership = metrics.membership_config.membership();
        let last_log = metrics.last_log_index.unwrap_or(0);
        let member = |id: u64| {
            let matched = match &metrics.replication {
                Some(_) if id == metrics.id => Some(metrics.last_log_index),
                // A node that has nothing yet is known to have nothing.
                Some(replication) => replication.get(&id).map(|log| log.map(|log| log.index)),
                None => None,
            };
            Member {
                id,
                address: address_of(metrics, id).unwrap_or_default(),
                matched: matched.flatten(),
                lag: matched.map(|matched| match matched {
                    Some(index) => last_log.saturating_sub(index),
                    None => metrics.last_log_index.map_or(0, |last| last + 1),
                }),
            }
        };
        Self {
            id: metrics.id,
            state: match metrics.state {
                _ if metrics.running_state.is_err() => QuorumState::Stopped,
                ServerState::Learner => QuorumState::Learner,
                ServerState::Follower => QuorumState::Follower,
                ServerState::Candidate => QuorumState::Candidate,
                ServerState::Leader => QuorumState::Leader,
                ServerState::Shutdown => QuorumState::Stopped,
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            voters: membership.voter_ids().map(member).collect(),
            learners: membership.learner_ids().map(member).collect(),
            last_log,
            applied: metrics.last_applied.map_or(0, |log| log.index),
            snapshot: metrics.snapshot.map(|log| log.index),
            since_quorum_ack_ms: metrics.millis_since_quorum_ack,
        }
    }
}

impl Leadership {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        let leader = metrics.current_leader.filter(|_| metrics.running_state.is_ok());
        Self {
            term: metrics.current_term,
            leader: leader.map(|id| (id, address_of(metrics, id).unwrap_or_default())),
            is_me: leader == Some(metrics.id) && metrics.state == ServerState::Leader,
        }
    }
}

fn address_of(metrics: &Metrics, id: u64) -> Option<String> {
    let membership = metrics.membership_config.membership();
    membership.get_node(&id).map(|node| node.addr.clone())
}
