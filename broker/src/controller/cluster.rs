//! The controller of a broker in a cluster: a member of the quorum that decides.
//!
//! Whoever submits a command may be on any broker: the quorum's leader takes it, from here or from there. It is answered
//! once it is committed, and in force on the broker that asked. A command whose answer got lost is sent again if doing
//! it twice is the same as doing it once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::cluster::{Command, Image, Outcome, Partition, Refusal, Topic, TransformRefusal};
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_quorum::{MemberError, Quorum, QuorumConfig, QuorumError, QuorumStatus, SubmitError};
use millstream_storage::disk::RealDisk;
use tokio::sync::{Notify, OnceCell, watch};

use super::Refused;
use super::entry::EntryError;
use super::guard::Guard;
use super::in_force::InForce;
use super::leaders::followers_of;
use super::lease::Lease;
use super::link::{Link, broker_id};
use super::messages::{Answer, Node, Request, Standing, decode, encode};
use super::tripwire::Tripwires;
use crate::peer::{CallKind, Peers};

/// This broker's part in the quorum.
pub struct Member {
    pub(super) me: BrokerId,
    pub(super) cluster: String,
    pub(super) quorum: Quorum,
    pub(super) link: Link,
    pub(super) in_force: Arc<InForce>,
    pub(super) lease: Arc<Lease>,
    pub(super) lease_length: Duration,
    pub(super) guard: Mutex<Guard>,
    /// Something happened that the guard may act on.
    pub(super) alarm: Notify,
    /// When a majority of the voters last agreed that this broker leads them.
    pub(super) confirmed: Mutex<Option<Instant>>,
    /// This life of the broker, once it is registered.
    pub(super) life: OnceCell<Life>,
    pub(super) wants_to_stop: AtomicBool,
    pub(super) tripwires: Tripwires,
    /// Has the others be looked after at once.
    pub(super) look_now: Notify,
    /// Whether it is about to end, and other brokers take over what it leads.
    pub(super) hands_over: AtomicBool,
    /// Where the quorum's files lie, on the same disk as all else.
    pub(super) directory: std::path::PathBuf,
    /// There was no room on the disk when it was last looked.
    pub(super) is_full: AtomicBool,
    /// A heartbeat is due before its time.
    pub(super) beat: Notify,
    /// What the quorum has decided, in force or not.
    pub(super) decided: watch::Receiver<Arc<Image>>,
    /// Why this broker cannot go on.
    pub(super) failed: watch::Sender<Option<String>>,
    pub(super) stopped: watch::Sender<bool>,
    /// Whether this broker may answer the quorum: it was in it before, or is known to be new.
    pub(super) is_in: watch::Sender<bool>,
    /// What this broker held when it was alone, encoded.
    pub(super) lone_image: Mutex<Option<String>>,
}

/// What names one life of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Drawn at the start.
    pub incarnation: u64,
    /// What the registration gave.
    pub epoch: u64,
}

/// What a member is made with.
pub struct MemberConfig {
    /// This broker.
    pub me: BrokerId,
    /// The cluster's name, as the certificates say it.
    pub cluster: String,
    /// Where the quorum's files lie.
    pub directory: std::path::PathBuf,
    /// How long a broker may be silent.
    pub lease: Duration,
    /// How long the quorum's leader may be silent.
    pub election_ms: u64,
    /// What this broker held when it was alone.
    pub lone_image: Option<String>,
}

impl Member {
    /// Opens this broker's part in the quorum. Nothing is decided before the ways to others are served.
    ///
    /// # Errors
    /// The files cannot be used.
    pub async fn open(
        config: MemberConfig,
        peers: Arc<Peers>,
        in_force: Arc<InForce>,
        lease: Arc<Lease>,
    ) -> Result<Arc<Self>, QuorumError> {
        let link = Link::new(config.me, peers);
        let (images, decided) = watch::channel(Arc::new(Image::default()));
        let told = link.clone();
        let on_image = move |image: Arc<Image>, _index: u64| {
            told.know(&image);
            images.send_replace(image);
        };
        let directory = config.directory.clone();
        let quorum = QuorumConfig {
            heartbeat_ms: heartbeat_ms(config.election_ms),
            election_ms: config.election_ms,
            ..QuorumConfig::new(config.me.0 as u64, config.directory)
        };
        let quorum = Quorum::open(quorum, RealDisk, link.clone(), on_image).await?;
        let was_in = quorum.is_initialised();
        Ok(Arc::new(Self {
            me: config.me,
            cluster: config.cluster,
            quorum,
            link,
            in_force,
            lease,
            lease_length: config.lease,
            guard: Mutex::new(Guard::new(config.lease)),
            alarm: Notify::new(),
            confirmed: Mutex::default(),
            life: OnceCell::new(),
            wants_to_stop: AtomicBool::new(false),
            tripwires: Tripwires::default(),
            look_now: Notify::new(),
            hands_over: AtomicBool::new(false),
            directory,
            is_full: AtomicBool::new(false),
            beat: Notify::new(),
            decided,
            failed: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
            is_in: watch::Sender::new(was_in),
            lone_image: Mutex::new(config.lone_image),
        }))
    }

    /// The image as the quorum has decided it, whether it is in force here or not.
    pub fn decided(&self) -> Arc<Image> {
        self.quorum.image()
    }

    /// How long this broker may act as a member.
    pub fn lease(&self) -> Arc<Lease> {
        self.lease.clone()
    }

    /// Becomes true when this broker's part ends.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// Whether an image of this version, or a later one, comes into force on this broker before long.
    pub async fn carried_out(&self, version: u64) -> bool {
        self.in_force.reaches(version, CARRY_OUT_WAIT).await
    }

    /// Whether this broker leads the quorum.
    pub fn is_leader(&self) -> bool {
        self.quorum.is_leader()
    }

    /// The broker that leads the quorum.
    pub fn leader(&self) -> Option<BrokerId> {
        self.quorum.leader().and_then(|(id, _)| broker_id(id))
    }

    /// How the quorum is.
    pub fn status(&self) -> QuorumStatus {
        self.quorum.metrics()
    }

    /// This life of the broker, once it is registered.
    pub fn life(&self) -> Option<Life> {
        self.life.get().copied()
    }

    /// Changes the image. When this returns, the change is committed and in force on this broker.
    ///
    /// # Errors
    /// The command is refused, or nobody leads the quorum for a while.
    pub async fn apply(&self, command: Command) -> Result<Outcome, Refused> {
        if attaches_plugins(&command) {
            let (in_force, image, asked) = (self.in_force.clone(), self.decided(), command.clone());
            let considered = tokio::task::spawn_blocking(move || in_force.consider(&image, &asked)).await;
            // What the image refuses is the quorum's to say: this broker may be behind.
            if let Ok(Err(refused)) = considered
                && refused.refusal.is_none()
            {
                return Err(refused);
            }
        }
        let (version, outcome) = self.submit(&command, Instant::now() + APPLY_WAIT).await?;
        let wait = match self.quorum.is_out_of_room() {
            true => Duration::ZERO,
            false => APPLY_WAIT,
        };
        let in_force = self.in_force.reaches(version, wait).await;
        if !in_force && outcome.is_ok() {
            tracing::warn!(version, "a change is decided, and not in force here yet");
        }
        outcome.map_err(Refused::from)
    }

    /// Has the quorum decide on a command, and says to which version of the image that led.
    ///
    /// # Errors
    /// Nobody leads the quorum until the deadline, or it is not known what became of the command.
    pub async fn submit(
        &self,
        command: &Command,
        deadline: Instant,
    ) -> Result<(u64, Result<Outcome, Refusal>), Refused> {
        let before = self.decided();
        let request = Request::Submit(Box::new(command.clone()));
        let mut was_lost = false;
        loop {
            let reason = match self.ask_leader(&request).await {
                Answer::Applied { version, outcome } => {
                    let outcome = match outcome {
                        Err(refusal) if was_lost => {
                            self.done_before(command, refusal, &before, version).await
                        }
                        outcome => outcome,
                    };
                    return Ok((version, outcome));
                }
                Answer::NotLeader(_) => "nobody leads the quorum".to_owned(),
                Answer::Unknown(reason) if is_repeatable(command) => {
                    was_lost = true;
                    reason
                }
                Answer::Unknown(reason) => return Err(Refused::new(ErrorCode::RequestTimedOut, reason)),
                Answer::Failed(reason) => return Err(Refused::new(ErrorCode::UnknownServerError, reason)),
                _ => "an answer to another question".to_owned(),
            };
            if Instant::now() >= deadline {
                let message = format!("the quorum does not decide: {reason}");
                return Err(Refused::new(ErrorCode::RequestTimedOut, message));
            }
            if *self.stopped.borrow() {
                return Err(super::stopped());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// A command was sent twice and refused: that may be because it was done the first time.
    async fn done_before(
        &self,
        command: &Command,
        refusal: Refusal,
        before: &Image,
        version: u64,
    ) -> Result<Outcome, Refusal> {
        let mut decided = self.decided.clone();
        let reached = decided.wait_for(|image| image.version() >= version);
        let _ = tokio::time::timeout(APPLY_WAIT, reached).await;
        let image = self.decided();
        match (command, &refusal) {
            (Command::CreateTopic { id, .. }, _) => {
                let made = image.topic_by_id(*id).cloned();
                made.map(Outcome::Topic).ok_or(refusal)
            }
            (Command::DeleteTopic { id }, Refusal::UnknownTopic(_)) => {
                let gone = before.topic_by_id(*id).cloned();
                gone.map(Outcome::TopicDeleted).ok_or(refusal)
            }
            (Command::DeployTransform { spec, id, .. }, _) => {
                let made = image.transform(&spec.name).filter(|made| made.id == *id);
                made.cloned().map(Outcome::Transform).ok_or(refusal)
            }
            (Command::DeleteTransform { name }, Refusal::Transform(TransformRefusal::Unknown(_))) => {
                let gone = before.transform(name).cloned();
                gone.map(Outcome::TransformDeleted).ok_or(refusal)
            }
            (Command::Bootstrap { cluster_id, .. }, _) if image.cluster_id() == Some(cluster_id) => {
                Ok(Outcome::Done)
            }
            _ => Err(refusal),
        }
    }

    /// Asks whoever leads the quorum, which may be this broker.
    pub(super) async fn ask_leader(&self, request: &Request) -> Answer {
        let leader = match self.quorum.is_out_of_room() {
            true => self.leader_by_others().await,
            false => self.quorum.leader(),
        };
        match leader {
            None => Answer::NotLeader(None),
            Some((id, _)) if id == self.me.0 as u64 => self.answer(self.me, request.clone()).await,
            Some((id, address)) => self.ask(id, &address, request).await,
        }
    }

    pub(super) async fn ask(&self, id: u64, address: &str, request: &Request) -> Answer {
        let called = self
            .link
            .ask(id, address, CallKind::Submit, encode(request), ASK_WAIT);
        let answered = called.await.and_then(|bytes| decode(&bytes));
        answered.unwrap_or_else(|reason| Answer::Unknown(format!("broker {id}: {reason}")))
    }

    /// Does what only the quorum's leader can do, for `from`.
    pub(super) async fn answer(&self, from: BrokerId, request: Request) -> Answer {
        match request {
            Request::LoneImage => return Answer::LoneImage(self.lone_image()),
            Request::Hello => return Answer::Standing(self.standing(from)),
            Request::Followers(topic) => {
                return Answer::Followers(followers_of(self.in_force.topics(), topic));
            }
            _ => {}
        }
        if !self.is_leader() {
            return Answer::NotLeader(self.quorum.leader());
        }
        match request {
            Request::Submit(command) => self.decide(from, *command).await,
            Request::Join { address, storage } => {
                if let Some(reason) = self.is_taken(from, storage) {
                    return Answer::Failed(reason);
                }
                // Whoever asks has an empty disk: it would count again without what it promised.
                if self.has_vote(from) {
                    return Answer::Failed(EntryError::LostDisk(from).to_string());
                }
                self.link.learn(from.0 as u64, &address);
                done(self.quorum.add_learner(from.0 as u64, address).await)
            }
            Request::AddVoter(id) => done(self.quorum.add_voter(id.0 as u64).await),
            Request::RemoveVoter(id) => done(self.quorum.remove_voter(id.0 as u64).await),
            Request::Forget(id) => done(self.quorum.remove_node(id.0 as u64).await),
            Request::Membership => {
                match tokio::time::timeout(ASK_WAIT, self.quorum.ensure_linearizable()).await {
                    Ok(Ok(())) => Answer::Standing(self.membership(from)),
                    Ok(Err(error)) => Answer::Unknown(error.to_string()),
                    Err(_) => Answer::Unknown("the voters of the quorum do not answer".to_owned()),
                }
            }
            Request::Quorum => Answer::Quorum(Box::new(self.status())),
            Request::LoneImage | Request::Hello | Request::Followers(_) => unreachable!("answered above"),
        }
    }

    async fn decide(&self, from: BrokerId, command: Command) -> Answer {
        let whose = match &command {
            Command::RegisterBroker { broker } => Some(broker.id),
            Command::AlterPartition { broker, .. } => Some(*broker),
            _ => None,
        };
        if whose.is_some_and(|id| id != from) {
            return Answer::Failed(format!("broker {from} speaks for another one"));
        }
        // Nobody would tell it what is decided.
        if matches!(command, Command::RegisterBroker { .. }) && self.membership(from) == Standing::Stranger {
            return Answer::Failed(format!("broker {from} does not follow the quorum"));
        }
        let answer = self.propose(command).await;
        self.alarm.notify_one();
        answer
    }

    /// Has the quorum decide, where this broker leads it.
    pub(super) async fn propose(&self, command: Command) -> Answer {
        match tokio::time::timeout(ASK_WAIT, self.quorum.submit(command)).await {
            Ok(Ok(applied)) => Answer::Applied {
                version: applied.version,
                outcome: applied.outcome,
            },
            // It may have been written before another one led.
            Ok(Err(SubmitError::NotLeader(_))) => {
                Answer::Unknown("another broker leads the quorum now".to_owned())
            }
            Ok(Err(error @ SubmitError::TooLarge { .. })) => Answer::Failed(error.to_string()),
            Ok(Err(error)) => Answer::Unknown(error.to_string()),
            Err(_) => Answer::Unknown("the voters of the quorum do not answer".to_owned()),
        }
    }

    /// Why a broker cannot join under this id, if another one serves under it.
    fn is_taken(&self, id: BrokerId, storage: uuid::Uuid) -> Option<String> {
        let image = self.decided();
        let known = image.brokers().get(&id)?;
        let is_other = !known.fenced && known.storage != storage;
        let refusal = Refusal::BrokerIdInUse {
            id,
            host: known.host.clone(),
            port: known.port,
        };
        is_other.then(|| refusal.to_string())
    }

    /// Has the quorum's leader do what is not a command.
    ///
    /// # Errors
    /// Why it is not done.
    pub async fn change_quorum(&self, request: Request) -> Result<(), String> {
        let deadline = Instant::now() + APPLY_WAIT;
        loop {
            let reason = match self.ask_leader(&request).await {
                Answer::Done => return Ok(()),
                Answer::Failed(reason) => return Err(reason),
                Answer::NotLeader(_) => "nobody leads the quorum".to_owned(),
                Answer::Unknown(reason) => reason,
                _ => "an answer to another question".to_owned(),
            };
            if Instant::now() >= deadline {
                return Err(reason);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    pub(super) fn lone_image(&self) -> Option<String> {
        let held = self.lone_image.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    /// This broker cannot go on; whoever runs it ends it.
    pub(super) fn fail(&self, reason: String) {
        tracing::error!(reason, "the broker cannot go on");
        self.lease.end();
        self.failed
            .send_if_modified(|failed| failed.replace(reason).is_none());
    }

    /// Carries out what the quorum decides from now on, one image after the other; those between may be left out.
    pub async fn follow(self: Arc<Self>) {
        let mut decided = self.decided.clone();
        let mut stopped = self.stopped.subscribe();
        loop {
            let image = decided.borrow_and_update().clone();
            if image.version() > self.in_force.image().version() {
                let in_force = self.in_force.clone();
                let putting = tokio::task::spawn_blocking(move || {
                    let plan = in_force.topics().plan(image);
                    in_force.put(&plan)
                });
                match putting.await {
                    Ok(failures) => {
                        for failure in &failures {
                            tracing::error!(failure, "a partition is not served by this broker");
                        }
                        if !failures.is_empty() {
                            tokio::spawn(self.clone().step_aside());
                        }
                    }
                    Err(error) => self.fail(format!("an image cannot be carried out: {error}")),
                }
                self.beat_if_due();
            }
            tokio::select! {
                changed = decided.changed() => if changed.is_err() { return },
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Has others lead, and wait no more for this broker, where it cannot open what it is to hold.
    async fn step_aside(self: Arc<Self>) {
        let image = self.in_force.image();
        let is_missed = |topic: &Topic, index: i32, partition: &Partition| {
            let opened = self.in_force.topics().find("", topic.id.0);
            let is_open = opened.is_ok_and(|topic| topic.partition(index).is_some());
            partition.isr.contains(&self.me) && partition.isr.len() > 1 && !is_open
        };
        let misses = |topic: &Topic| {
            let mut partitions = (0..).zip(&topic.partitions);
            partitions.any(|(index, partition)| is_missed(topic, index, partition))
        };
        let mut stored = image.topics().filter(|topic| !topic.is_view());
        if let Some(epoch) = image.brokers().get(&self.me).map(|broker| broker.epoch)
            && stored.any(|topic| misses(topic))
        {
            // It is back in service with its next heartbeat, and in sync where it can be.
            if let Err(refused) = self.step_down(epoch).await {
                tracing::error!(
                    reason = refused.message,
                    "others wait for a partition that is not served here"
                );
            }
        }
    }

    /// Has others take over what this broker leads. It is back in service with its next heartbeat, if it has room.
    ///
    /// # Errors
    /// As [`Member::apply`].
    pub async fn step_down(&self, epoch: u64) -> Result<Outcome, Refused> {
        // Were the reason a full disk, and not known yet, then it would be put back into service at once.
        self.look_for_room().await;
        self.apply(Command::FenceBroker { id: self.me, epoch }).await
    }

    /// A broker that is out of service says at once that it has caught up, and one that is back asks for its lease.
    fn beat_if_due(&self) {
        if !self.lease.is_valid() {
            self.beat.notify_one();
        }
    }

    /// Has the cluster count on others from now on. Returns once it does, or does not say so in time.
    pub async fn leave(&self) {
        let Some(life) = self.life().filter(|_| self.lease.is_valid()) else {
            return;
        };
        let partitions = self.in_force.topics().partitions();
        let leads = partitions.iter().any(|partition| partition.is_leader());
        // What comes from now on is passed on to whoever leads next; what is here is safe before that.
        self.hands_over.store(leads, Ordering::Relaxed);
        let settled = Instant::now() + SETTLE_WAIT;
        while partitions.iter().any(|partition| !partition.is_settled()) && Instant::now() < settled {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.wants_to_stop.store(true, Ordering::Relaxed);
        self.beat.notify_one();
        let mut decided = self.decided.clone();
        let is_out = |image: &Arc<Image>| {
            let me = image.brokers().get(&self.me);
            me.is_none_or(|me| me.fenced || me.epoch != life.epoch)
        };
        let told = tokio::time::timeout(LEAVE_WAIT, decided.wait_for(is_out)).await;
        let Ok(Ok(version)) = told.map(|told| told.map(|image| image.version())) else {
            self.hands_over.store(false, Ordering::Relaxed);
            tracing::warn!(
                "the cluster does not answer: others lead when it finds out that this broker is gone"
            );
            return;
        };
        // Clients hear from here who leads now.
        if self.in_force.reaches(version, LEAVE_WAIT).await && leads {
            tokio::time::sleep(LINGER).await;
        }
    }

    /// Ends this broker's part; another one leads the quorum first, if this one does.
    pub async fn stop(&self) {
        let has_others = self.quorum.metrics().voters.len() > 1;
        if self.is_leader() && has_others && !self.quorum.hand_over(HAND_OVER_WAIT).await {
            tracing::warn!("no other voter took over: the quorum finds out that its leader is gone");
        }
        self.stopped.send_replace(true);
        self.quorum.shutdown().await;
    }
}

fn done(result: Result<(), MemberError>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        // Asked again, it may be done.
        Err(error @ (MemberError::Submit(_) | MemberError::InProgress | MemberError::Lagging { .. })) => {
            Answer::Unknown(error.to_string())
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// The address of a node, for messages.
pub(super) fn show(node: &Node) -> String {
    format!("broker {} at {}", node.0, node.1)
}

/// Pause between two signs of life of the quorum's leader. It is also how long the leader waits for an answer before it
/// asks anew, so a disk that syncs slowly must not make it much shorter.
fn heartbeat_ms(election_ms: u64) -> u64 {
    election_ms / 5
}

/// Whether doing it twice is the same as doing it once, or is noticed.
fn is_repeatable(command: &Command) -> bool {
    !matches!(
        command,
        Command::CreatePartitions { .. } | Command::DeletePlugin { .. }
    )
}

/// Whether it may put plugins to work, which every broker that is asked tries out first.
fn attaches_plugins(command: &Command) -> bool {
    match command {
        Command::CreateTopic { configs, .. } => !configs.is_empty(),
        Command::AlterConfigs { .. } | Command::RegisterPlugin { .. } => true,
        _ => false,
    }
}

/// Longest time until a command is decided and in force.
const APPLY_WAIT: Duration = Duration::from_secs(15);
/// Longest time that a start waits for its partitions: they may have to be read after a crash.
const CARRY_OUT_WAIT: Duration = Duration::from_secs(600);
/// Longest time until the quorum's leader answers.
const ASK_WAIT: Duration = Duration::from_secs(5);
/// Pause before the quorum's leader is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Longest time that a broker waits for another one to lead the quorum in its place.
pub(super) const HAND_OVER_WAIT: Duration = Duration::from_millis(1000);
/// How long an ending broker that led tells its clients who leads now.
const LINGER: Duration = Duration::from_millis(250);
/// Longest time that an ending broker waits until what it took is safe: a follower that is slow is not waited for.
const SETTLE_WAIT: Duration = Duration::from_millis(100);
/// Longest time that an ending broker waits for others to lead.
const LEAVE_WAIT: Duration = Duration::from_millis(1500);
