//! One node of the quorum, as a broker holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_core::cluster::{Command, Image};
use millstream_storage::disk::Disk;
use openraft::error::{
    ChangeMembershipError, CheckIsLeaderError, ClientWriteError, Fatal, InitializeError, RaftError,
};
use openraft::raft::{AppendEntriesResponse, VoteResponse};
use openraft::{BasicNode, ChangeMembers, ServerState};
use tokio::sync::watch;

use crate::config::QuorumConfig;
use crate::error::{MemberError, QuorumError, SubmitError};
use crate::message::{Request, Resign, to_json};
use crate::network::Network;
use crate::patience::Patience;
use crate::status::{Leadership, QuorumStatus};
use crate::store::{self, machine::ImageView, room::Room};
use crate::transport::Transport;
use crate::types::{Applied, Raft};

/// A node of the quorum. Clones are the same node; it runs until [`Quorum::shutdown`].
#[derive(Clone)]
pub struct Quorum(Arc<Inner>);

struct Inner {
    me: u64,
    raft: Arc<Raft>,
    patience: Arc<Patience>,
    call: Box<dyn Fn(u64, String, Vec<u8>) -> BoxFuture + Send + Sync>,
    image: ImageView,
    room: Room,
    was_initialised: AtomicBool,
    leadership: watch::Receiver<Leadership>,
    close_files: Box<dyn Fn() -> BoxFuture + Send + Sync>,
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Quorum {
    /// Opens a node's files and lets it run. A node without files follows and votes for nobody until it is initialised
    /// or a leader finds it.
    ///
    /// `on_image` is called with every new image in their order, and the index of the last log entry in it; first, while
    /// this is being opened, with what the files lead to, where they hold anything. It must not block: the node
    /// applies nothing meanwhile.
    ///
    /// # Errors
    /// Settings that cannot be, and files that cannot be used.
    pub async fn open<D: Disk, T: Transport>(
        config: QuorumConfig,
        disk: D,
        transport: T,
        on_image: impl Fn(Arc<Image>, u64) + Send + Sync + 'static,
    ) -> Result<Self, QuorumError> {
        let raft_config = config.to_raft()?;
        let room = Room::default();
        let (log, machine) = store::open(&config, disk, Arc::new(on_image), &room).await?;
        let image = machine.view();
        let (log_worker, snapshot_worker) = (log.worker(), machine.worker());
        let sender = transport.clone();
        let (election_ms, lease_ms) = (config.election_ms, config.lease_ms());
        let patience = Arc::new(Patience::new(config.me, election_ms, lease_ms, room.clone()));
        let network = Network {
            transport,
            patience: patience.clone(),
            backoff: Duration::from_millis(config.heartbeat_ms),
        };
        let raft = Raft::new(config.me, raft_config, network, log, machine).await;
        let raft = Arc::new(raft.map_err(stopped)?);
        tokio::spawn(patience.clone().run(Arc::downgrade(&raft)));
        let was_initialised = raft.is_initialized().await.map_err(stopped)?;
        let leadership = follow_leadership(&raft);
        Ok(Self(Arc::new(Inner {
            me: config.me,
            raft,
            patience,
            call: Box::new(move |target, address, request| {
                let sender = sender.clone();
                // Whoever cannot be reached does not hear it.
                Box::pin(async move { drop(sender.call(target, &address, request).await) })
            }),
            image,
            room,
            was_initialised: AtomicBool::new(was_initialised),
            leadership,
            close_files: Box::new(move || {
                let (log, snapshots) = (log_worker.clone(), snapshot_worker.clone());
                Box::pin(async move {
                    log.close().await;
                    snapshots.close().await;
                })
            }),
        })))
    }

    /// Whether the node has ever been part of a quorum.
    pub fn is_initialised(&self) -> bool {
        if self.0.was_initialised.load(Ordering::Relaxed) {
            return true;
        }
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let is_initialised = metrics.last_log_index.is_some() || metrics.current_term > 0;
        self.0.was_initialised.fetch_or(is_initialised, Ordering::Relaxed);
        is_initialised
    }

    /// Begins a quorum with these voters, by id and address. Every one of them may be told so, and more than once, as
    /// long as all are told the same; a node that is in a quorum already stays as it is.
    ///
    /// Two different sets of voters that have no majority in common would make two clusters: say the same everywhere.
    /// A voter that lost its disk must not be told at all, for it would vote and count again without what it promised:
    /// take its vote away and forget it ([`Quorum::remove_voter`], [`Quorum::remove_node`]), and let it join. The others
    /// survive it if that is not done, but what only it and one that is away had agreed on may be lost.
    ///
    /// # Errors
    /// This node is not among the voters, or has stopped.
    pub async fn initialise(&self, voters: BTreeMap<u64, String>) -> Result<(), QuorumError> {
        let ids = voters.keys().copied().collect();
        let nodes: BTreeMap<_, _> = voters
            .into_iter()
            .map(|(id, address)| (id, node(address)))
            .collect();
        match self.0.raft.initialize(nodes).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                self.0.was_initialised.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => Err(QuorumError::NotAmongVoters {
                me: self.0.me,
                voters: ids,
            }),
            Err(RaftError::Fatal(fatal)) => Err(stopped(fatal)),
        }
    }

    /// Answers what another node's [`Transport`] sent. Who asks must be a node of the cluster; the answer is that
    /// node's to read.
    ///
    /// # Errors
    /// Bytes that are no request, or one for another node.
    pub async fn handle(&self, request: &[u8]) -> Result<Vec<u8>, QuorumError> {
        if self.is_out_of_room() {
            // Requests would only heap up.
            return Err(QuorumError::DiskFull);
        }
        let raft = &self.0.raft;
        let patience = &self.0.patience;
        Ok(match Request::decode(request, self.0.me)? {
            Request::Append(request) => {
                let vote = request.vote;
                let answer = raft.append_entries(request).await;
                if matches!(&answer, Ok(answer) if !matches!(answer, AppendEntriesResponse::HigherVote(_))) {
                    patience.heard(vote);
                }
                to_json(&answer)
            }
            Request::Vote(_) if self.is_loyal() => {
                let vote = raft.metrics().borrow().vote;
                to_json(&Ok::<_, RaftError<u64>>(VoteResponse::new(vote, None, false)))
            }
            Request::Vote(request) => {
                let answer = raft.vote(request).await;
                if matches!(&answer, Ok(answer) if answer.vote_granted) {
                    patience.voted();
                }
                to_json(&answer)
            }
            Request::Snapshot(request) => {
                let vote = request.vote;
                let answer = raft.install_snapshot(request).await;
                if matches!(&answer, Ok(answer) if answer.vote == vote) {
                    patience.heard(vote);
                }
                to_json(&answer)
            }
            Request::Resign(resign) => {
                if raft.metrics().borrow().vote == resign.vote {
                    patience.lose(resign.vote, true, resign.successor == self.0.me);
                }
                to_json(&())
            }
        })
    }

    /// Whether the node waits for room on its disk. It takes no part in the quorum meanwhile: it neither leads nor stands
    /// for election nor knows who leads, and its image stands still.
    pub fn is_out_of_room(&self) -> bool {
        self.0.room.is_awaited()
    }

    /// Whether this node follows a leader that it trusts.
    fn is_loyal(&self) -> bool {
        let metrics = self.0.raft.metrics();
        let (state, leader) = (metrics.borrow().state, metrics.borrow().current_leader);
        state == ServerState::Follower && leader.is_some() && self.0.patience.is_loyal()
    }

    /// Says that node `id` is known to be gone: if it leads, it is replaced without waiting for a silence. Whoever says so
    /// wrongly costs the quorum an election.
    pub fn lost(&self, id: u64) {
        let metrics = self.0.raft.metrics();
        let (leader, vote) = (metrics.borrow().current_leader, metrics.borrow().vote);
        if leader == Some(id) && id != self.0.me {
            self.0.patience.lose(vote, false, false);
        }
    }

    /// Has another voter lead, if this node does: the one that holds most of the log. Gives whether one does after
    /// `wait`, or did already.
    pub async fn hand_over(&self, wait: Duration) -> bool {
        let inner = &self.0;
        if self.is_out_of_room() {
            return false;
        }
        let status = self.metrics();
        let mut others: Vec<_> = status
            .voters
            .into_iter()
            .filter(|voter| voter.id != inner.me)
            .collect();
        others.sort_by_key(|voter| std::cmp::Reverse(voter.matched));
        let Some(successor) = others.first().map(|voter| voter.id).filter(|_| self.is_leader()) else {
            return !self.is_leader();
        };
        let vote = inner.raft.metrics().borrow().vote;
        let resign = Resign { vote, successor };
        // Who hears from this node gives nobody its vote for a while.
        inner.raft.runtime_config().heartbeat(false);
        let mut leadership = self.watch_leadership();
        let told = others.into_iter().map(|voter| {
            let request = Request::Resign(resign).encode(voter.id);
            (inner.call)(voter.id, voter.address, request)
        });
        let told: Vec<_> = told.map(tokio::spawn).collect();
        let is_done = leadership.wait_for(|now| now.leader.as_ref().is_some_and(|(id, _)| *id != inner.me));
        let is_done = matches!(tokio::time::timeout(wait, is_done).await, Ok(Ok(_)));
        told.iter().for_each(tokio::task::JoinHandle::abort);
        inner.raft.runtime_config().heartbeat(true);
        is_done
    }

    /// Lets the quorum agree on a command, and applies it. It is in force and durable on a majority on return, and in
    /// this node's image. Only a leader can. It waits as long as no majority answers, so give it a deadline; a command
    /// that was given up on may come into force later.
    ///
    /// # Errors
    /// Another node leads, or this one has stopped. A refusal is no error: see [`Applied::outcome`].
    pub async fn submit(&self, command: Command) -> Result<Applied, SubmitError> {
        let bytes = to_json(&command).len();
        if bytes > COMMAND_BYTES_MAX {
            let max = COMMAND_BYTES_MAX;
            return Err(SubmitError::TooLarge { bytes, max });
        }
        self.has_room()?;
        match self.0.raft.client_write(Arc::new(command)).await {
            Ok(response) => Ok(response.data),
            Err(error) => Err(self.not_written(error)),
        }
    }

    /// The image now: every command that this node knows to be agreed on.
    pub fn image(&self) -> Arc<Image> {
        self.0.image.image()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<(u64, String)> {
        match self.is_out_of_room() {
            true => None,
            false => Leadership::of(&self.0.raft.metrics().borrow()).leader,
        }
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        !self.is_out_of_room() && Leadership::of(&self.0.raft.metrics().borrow()).is_me
    }

    /// What this node knows of the quorum.
    pub fn metrics(&self) -> QuorumStatus {
        QuorumStatus::of(&self.0.raft.metrics().borrow())
    }

    /// Why the node runs no more; none while it does.
    pub fn failure(&self) -> Option<String> {
        let metrics = self.0.raft.metrics();
        let running = metrics.borrow().running_state.clone();
        running.err().map(|fatal| fatal.to_string())
    }

    /// Tells who leads, and every change of that.
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    /// Waits until this node, as the leader, holds everything that was agreed on before: it asks a majority whether it
    /// leads still.
    ///
    /// # Errors
    /// Another node leads, or too few answer.
    pub async fn ensure_linearizable(&self) -> Result<(), SubmitError> {
        self.has_room()?;
        match self.0.raft.ensure_linearizable().await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                Err(SubmitError::NotLeader(self.leader()))
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(error))) => {
                Err(SubmitError::NoQuorum(error.to_string()))
            }
            Err(RaftError::Fatal(fatal)) => Err(SubmitError::Stopped(fatal.to_string())),
        }
    }

    /// Lets a node follow the log without a vote, or tells where it is reached now. Only a leader can.
    ///
    /// # Errors
    /// The quorum did not take it.
    pub async fn add_learner(&self, id: u64, address: String) -> Result<(), MemberError> {
        let known = {
            let metrics = self.0.raft.metrics();
            let membership = metrics.borrow().membership_config.clone();
            membership
                .membership()
                .get_node(&id)
                .map(|node| node.addr.clone())
        };
        let nodes = BTreeMap::from([(id, node(address.clone()))]);
        match known {
            Some(known) if known == address => Ok(()),
            // openraft warns of an address that leads to another node. Requests name the node that they are meant for.
            Some(_) => self.change(ChangeMembers::SetNodes(nodes), id).await,
            None => self.change(ChangeMembers::AddNodes(nodes), id).await,
        }
    }

    /// Gives a node that follows the log a vote. Only a leader can.
    ///
    /// # Errors
    /// The node does not follow, or is far behind; or the quorum did not take it.
    pub async fn add_voter(&self, id: u64) -> Result<(), MemberError> {
        let status = self.metrics();
        if let Some(learner) = status.learners.iter().find(|learner| learner.id == id)
            && let Some(lag) = learner
                .lag
                .filter(|lag| *lag > VOTER_LAG_MAX || learner.matched.is_none())
        {
            return Err(MemberError::Lagging { id, lag });
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), id)
            .await
    }

    /// Takes a node's vote away; it goes on to follow the log. Only a leader can, and it can do so to itself: it leads
    /// without a vote then, until it stops or the others elect another one.
    ///
    /// # Errors
    /// It is the last voter, or the quorum did not take it.
    pub async fn remove_voter(&self, id: u64) -> Result<(), MemberError> {
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), id)
            .await
    }

    /// Forgets a node that has no vote. Only a leader can.
    ///
    /// # Errors
    /// It is a voter, or the quorum did not take it.
    pub async fn remove_node(&self, id: u64) -> Result<(), MemberError> {
        if self.metrics().voters.iter().any(|voter| voter.id == id) {
            return Err(MemberError::IsVoter(id));
        }
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), id)
            .await
    }

    /// Takes a snapshot now; it is written after return.
    ///
    /// # Errors
    /// The node has stopped.
    pub async fn snapshot(&self) -> Result<(), QuorumError> {
        if self.is_out_of_room() {
            return Err(QuorumError::DiskFull);
        }
        self.0.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// What is asked of a node that waits for room would only heap up, and an answer would make others trust it.
    fn has_room(&self) -> Result<(), SubmitError> {
        match self.is_out_of_room() {
            true => Err(SubmitError::DiskFull),
            false => Ok(()),
        }
    }

    /// Stops the node and closes its files: they can be opened again on return.
    pub async fn shutdown(&self) {
        self.0.room.give_up();
        // What its task returns matters to nobody who wants it to end.
        let _ = self.0.raft.shutdown().await;
        (self.0.close_files)().await;
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>, id: u64) -> Result<(), MemberError> {
        self.has_room()?;
        match self.0.raft.change_membership(change, true).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
                ChangeMembershipError::InProgress(_) => MemberError::InProgress,
                ChangeMembershipError::EmptyMembership(_) => MemberError::LastVoter(id),
                ChangeMembershipError::LearnerNotFound(_) => MemberError::Unknown(id),
            }),
            Err(error) => Err(self.not_written(error).into()),
        }
    }

    fn not_written(&self, error: RaftError<u64, ClientWriteError<u64, BasicNode>>) -> SubmitError {
        match error {
            RaftError::Fatal(fatal) => SubmitError::Stopped(fatal.to_string()),
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                let named = to.leader_id.zip(to.leader_node.map(|node| node.addr));
                SubmitError::NotLeader(named.or_else(|| self.leader()).filter(|(id, _)| *id != self.0.me))
            }
            RaftError::APIError(error @ ClientWriteError::ChangeMembershipError(_)) => {
                SubmitError::NoQuorum(error.to_string())
            }
        }
    }
}

/// Turns openraft's many numbers into who leads; ends with the node.
fn follow_leadership(raft: &Raft) -> watch::Receiver<Leadership> {
    let mut metrics = raft.metrics();
    let (sender, receiver) = watch::channel(Leadership::of(&metrics.borrow()));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let leadership = Leadership::of(&metrics.borrow_and_update());
            sender.send_if_modified(|known| {
                let is_new = *known != leadership;
                *known = leadership;
                is_new
            });
        }
    });
    receiver
}

fn node(address: String) -> BasicNode {
    BasicNode { addr: address }
}

fn stopped(fatal: Fatal<u64>) -> QuorumError {
    QuorumError::Stopped(fatal.to_string())
}

/// No command is larger once encoded: a follower gets it in one request.
pub const COMMAND_BYTES_MAX: usize = 8 << 20;
/// Entries that a node may lack when it gets its vote: the next ones wait for it.
const VOTER_LAG_MAX: u64 = 100;
