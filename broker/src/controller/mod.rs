//! The controller: the one place that decides on changes of the cluster's image.
//!
//! Whoever wants a change submits a command to [`Controller::apply`]. An answer means that the change is durable, and in
//! force on this broker. A broker that is alone decides by itself ([`lone`]); brokers of a cluster have a quorum that
//! decides ([`cluster`]), into which they get as [`entry`] says. There the quorum's leader also watches over the brokers'
//! lives: [`heartbeats`] carry them to the [`guard`], who decides whom the cluster counts on, and [`probe`] tells it of
//! processes that have ended.

pub mod cluster;
mod departed;
pub mod entry;
pub mod guard;
mod heartbeats;
mod hello;
mod in_force;
pub mod journal;
pub mod leaders;
mod lease;
mod link;
pub mod lone;
pub mod messages;
mod probe;
mod removed;
mod room;
mod service;
mod tripwire;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use millstream_core::cluster::{Broker, Command, Image, Outcome, Refusal, Topic, placement};
use millstream_core::ids::{BrokerId, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_quorum::QuorumStatus;
use uuid::Uuid;

use crate::context::Context;
use crate::handlers::admin;
use crate::settings::Settings;
use crate::topics::{self, is_internal};

use cluster::Member;
use messages::{Followers, Request};

pub use in_force::InForce;
pub use lease::Lease;
pub use lone::{LoadError, Lone, load};
pub use service::Services;

/// A handle to whoever decides.
pub struct Controller {
    in_force: Arc<InForce>,
    mode: Mode,
    new_topics: NewTopics,
}

enum Mode {
    Lone(Lone),
    Cluster(Arc<Member>),
}

/// What a topic gets that is made without saying more than its name.
#[derive(Debug, Clone, Copy)]
struct NewTopics {
    partitions: usize,
    replication_factor: usize,
    partitions_max: usize,
}

/// A command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's error code.
    pub code: ErrorCode,
    /// A sentence for the user.
    pub message: String,
    /// The image's own reason, where that is what refused.
    pub refusal: Option<Refusal>,
}

impl Controller {
    /// The controller of a broker that is alone.
    pub fn lone(settings: &Settings, in_force: Arc<InForce>, lone: Lone) -> Self {
        Self::new(settings, in_force, Mode::Lone(lone))
    }

    /// The controller of a broker in a cluster.
    pub fn cluster(settings: &Settings, in_force: Arc<InForce>, member: Arc<Member>) -> Self {
        Self::new(settings, in_force, Mode::Cluster(member))
    }

    fn new(settings: &Settings, in_force: Arc<InForce>, mode: Mode) -> Self {
        let new_topics = NewTopics {
            partitions: settings.num_partitions as usize,
            replication_factor: settings.default_replication_factor as usize,
            partitions_max: settings.partitions_max as usize,
        };
        Self {
            in_force,
            mode,
            new_topics,
        }
    }

    /// The image as it is in force on this broker.
    pub fn image(&self) -> Arc<Image> {
        self.in_force.image()
    }

    /// Whether clients are told where a broker is reached: it serves, or did so not long ago.
    pub fn is_told(&self, broker: &Broker) -> bool {
        if self.is_out_of_room() && self.member().is_some_and(|member| member.me == broker.id) {
            // What it knows of the cluster may be old. A client that hears so goes to another broker, and asks there.
            return false;
        }
        !broker.fenced || self.in_force.departed().is_told(broker.id, Instant::now())
    }

    /// Says who else is to hear of every image, and tells them of the one of now.
    pub fn tell(&self, context: &Arc<Context>) {
        self.in_force.tell(context);
    }

    /// Changes the image. When this returns, the change is durable and in force on this broker.
    ///
    /// # Errors
    /// The command is refused, or cannot be made durable.
    pub async fn apply(&self, command: Command) -> Result<Outcome, Refused> {
        match &self.mode {
            Mode::Lone(lone) => lone.apply(command).await,
            Mode::Cluster(member) => member.apply(command).await,
        }
    }

    /// As [`Controller::apply`], on the way to something that a client asks for again, and behind which others of its
    /// requests wait: not for long, and not at all where the quorum is not heard.
    ///
    /// # Errors
    /// As [`Controller::apply`]; `RequestTimedOut` where it is not known in time what becomes of it.
    pub async fn apply_in_passing(&self, command: Command) -> Result<Outcome, Refused> {
        let Some(member) = self.member() else {
            return self.apply(command).await;
        };
        let undecided = || Refused::new(ErrorCode::RequestTimedOut, "the quorum has not decided yet");
        // One whose disk is full has others decide, and no lease.
        if !member.lease.is_valid() && !member.is_out_of_room() {
            return Err(undecided());
        }
        let applied = tokio::time::timeout(PASSING_WAIT, self.apply(command)).await;
        applied.unwrap_or_else(|_| Err(undecided()))
    }

    /// Whether this broker decides: always if it is alone, otherwise while it leads the quorum.
    pub fn is_leader(&self) -> bool {
        self.member().is_none_or(|member| member.is_leader())
    }

    /// The broker that leads the quorum; none while nobody does, and for a broker that is alone.
    pub fn leader(&self) -> Option<BrokerId> {
        self.member().and_then(|member| member.leader())
    }

    /// Whether the disk of this member of a cluster is full.
    pub fn is_out_of_room(&self) -> bool {
        self.member().is_some_and(|member| member.is_out_of_room())
    }

    /// How the quorum is; none for a broker that is alone.
    pub fn quorum_status(&self) -> Option<QuorumStatus> {
        self.member().map(|member| member.status())
    }

    /// How the quorum is, as its leader sees it, if that answers; none for a broker that is alone.
    pub async fn quorum_status_by_leader(&self) -> Option<QuorumStatus> {
        match self.member() {
            Some(member) => Some(member.status_by_leader().await),
            None => None,
        }
    }

    /// How far the followers of a topic's partitions are, as their leaders say; without those that do not answer.
    pub async fn followers(&self, image: &Image, topic: &Topic) -> Followers {
        match self.member() {
            Some(member) => member.followers(image, topic).await,
            None => leaders::followers_of(self.in_force.topics(), topic.id),
        }
    }

    /// Has others take over what this broker leads; nothing happens where it is alone, or is not registered yet.
    ///
    /// # Errors
    /// As [`Controller::apply`].
    pub async fn step_down(&self) -> Result<(), Refused> {
        match self.member().zip(self.broker_epoch()) {
            Some((member, epoch)) => member.step_down(epoch).await.map(drop),
            None => Ok(()),
        }
    }

    /// What this broker's registration gave it, as `AlterPartition` needs it; none for a broker that is alone.
    pub fn broker_epoch(&self) -> Option<u64> {
        self.member()
            .and_then(|member| member.life())
            .map(|life| life.epoch)
    }

    /// Lets a broker vote in the quorum that follows it already.
    ///
    /// # Errors
    /// Why it does not vote.
    pub async fn add_voter(&self, id: BrokerId) -> Result<(), Refused> {
        self.change_quorum(Request::AddVoter(id)).await
    }

    /// Takes a broker's vote; it follows on.
    ///
    /// # Errors
    /// Why it still votes.
    pub async fn remove_voter(&self, id: BrokerId) -> Result<(), Refused> {
        self.change_quorum(Request::RemoveVoter(id)).await
    }

    /// Forgets a broker that is stopped and empty: in the image, and as one that follows the quorum.
    ///
    /// # Errors
    /// It still serves, holds partitions or votes.
    pub async fn remove_broker(&self, id: BrokerId) -> Result<Outcome, Refused> {
        let votes = |status: QuorumStatus| status.voters.iter().any(|voter| voter.id == id.0 as u64);
        if self.quorum_status().is_some_and(votes) {
            let message = format!(
                "broker {id} votes in the quorum: take its vote first, with 'millstream cluster quorum remove {id}'"
            );
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
        let removed = self.apply(Command::RemoveBroker { id }).await?;
        if self.member().is_some() {
            self.change_quorum(Request::Forget(id)).await?;
        }
        Ok(removed)
    }

    async fn change_quorum(&self, request: Request) -> Result<(), Refused> {
        let Some(member) = self.member() else {
            let message = "this broker is alone: there is no quorum";
            return Err(Refused::new(ErrorCode::UnsupportedVersion, message));
        };
        let changed = member.change_quorum(request).await;
        changed.map_err(|reason| Refused::new(ErrorCode::InvalidRequest, reason))
    }

    fn member(&self) -> Option<&Arc<Member>> {
        match &self.mode {
            Mode::Lone(_) => None,
            Mode::Cluster(member) => Some(member),
        }
    }

    /// Resolves with the reason when this broker cannot go on.
    pub async fn failed(&self) -> String {
        let Some(member) = self.member() else {
            return std::future::pending().await;
        };
        let mut failed = member.failed.subscribe();
        let reason = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Waits a moment where a leader may have ended just now, until it is decided who leads in its place.
    pub async fn leaders_are_settled(&self) {
        if let Some(member) = self.member() {
            member.leaders_are_settled().await;
        }
    }

    /// Whether this broker is about to end, and others take over what it leads.
    pub fn hands_over(&self) -> bool {
        self.member()
            .is_some_and(|member| member.hands_over.load(Ordering::Relaxed))
    }

    /// Has others take over what this broker leads, before it ends.
    pub async fn leave(&self) {
        if let Some(member) = self.member() {
            member.leave().await;
        }
    }

    /// Ends this broker's part in the quorum.
    pub async fn stop_quorum(&self) {
        if let Some(member) = self.member() {
            member.stop().await;
        }
    }

    /// Ends after what was submitted before. Blocks.
    pub fn stop(&self) {
        if let Mode::Lone(lone) = &self.mode {
            lone.stop();
        }
    }

    /// Makes a topic of which only the name is known, as clients do that ask for one that is not there.
    ///
    /// # Errors
    /// As [`Controller::apply`]. It is no error if somebody else has made it meanwhile.
    pub async fn create_topic_with_defaults(&self, name: TopicName) -> Result<Arc<topics::Topic>, Refused> {
        let NewTopics {
            partitions,
            replication_factor,
            partitions_max,
        } = self.new_topics;
        if is_internal(&name) {
            let message = format!("'{name}' is an internal topic: brokers make it when they need it");
            return Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        let image = self.image();
        let there: usize = image.topics().map(|topic| topic.partitions.len()).sum();
        if there.saturating_add(partitions) > partitions_max {
            let message =
                format!("one more topic would be beyond millstream.partitions.max={partitions_max}");
            return Err(Refused::new(ErrorCode::PolicyViolation, message));
        }
        let id = Uuid::new_v4();
        // A lone broker keeps the one copy that it can.
        let factor = match image.cluster_id() {
            Some(_) => replication_factor,
            None => 1,
        };
        let placed = placement::place(&image, partitions, factor, id.as_u64_pair().1);
        let command = Command::CreateTopic {
            name: name.clone(),
            id: TopicId(id),
            partitions: placed.map_err(Refused::from)?,
            configs: Default::default(),
        };
        let refused = self.apply_in_passing(command).await.err();
        let found = self.in_force.topics().find(&name, Uuid::nil());
        found.map_err(|code| refused.unwrap_or_else(|| Refused::new(code, "the topic was deleted at once")))
    }
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            refusal: None,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let denied = admin::denied(&refusal);
        Self {
            code: denied.code,
            message: denied.message,
            refusal: Some(refusal),
        }
    }
}

fn stopped() -> Refused {
    Refused::new(ErrorCode::BrokerNotAvailable, "the broker shuts down")
}

/// Longest time that a client's other requests wait for what the quorum decides.
const PASSING_WAIT: Duration = Duration::from_secs(2);
