//! A node: what the broker's `controller` does around the quorum, registration, heartbeats and roles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::{
    Broker, Command, FEATURE_LEVELS, Image, Outcome, PartitionChange, PartitionRefusal,
};
use millstream_core::ids::{BrokerId, LeaderEpoch, PartitionIndex};
use millstream_core::mutation::{Mutation, is_on};
use millstream_quorum::{Applied, Quorum, QuorumConfig, Transport};
use millstream_storage::sim_disk::{Random, SimDisk};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::bus::{Bus, Event, Life};
use crate::client::Asker;
use crate::disk::LifeDisk;
use crate::judge::Judge;
use crate::message::Message;
use crate::replica::{Fatal, Replica, Scene, wall_ms};
use crate::transactions::{Parts, to_deploy};

/// A node, running or not.
pub struct Node {
    pub id: u64,
    pub disk: SimDisk,
    /// Names its disk.
    pub storage: Uuid,
    pub lives: u64,
    /// Its clock: what it is ahead, and how many thousandths it goes faster.
    pub ahead_ms: i64,
    pub faster_per_1000: i64,
    /// Takes nothing in until then.
    pub paused_until_ms: u64,
    pub process: Option<Process>,
}

/// A running process.
pub struct Process {
    pub life: Life,
    pub disk: LifeDisk,
    pub quorum: Option<Quorum>,
    pub image: Arc<Image>,
    pub replicas: BTreeMap<i32, Replica>,
    /// What it does for transactions.
    pub parts: Parts,
    incarnation: u64,
    asked: BTreeMap<u64, (Purpose, u64)>,
    next_token: u64,
    /// When it last heard from the quorum's leader, on the simulation's clock.
    heard_ms: u64,
    /// As the quorum's leader: when it heard of each broker, on its own clock.
    heartbeats: BTreeMap<BrokerId, i64>,
    leads_quorum: bool,
    duty_until_ms: u64,
}

/// Why a command was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Register,
    InSync {
        partition: i32,
        epoch: LeaderEpoch,
        partition_epoch: i32,
    },
    Duty,
}

/// How a node's quorum reaches others.
#[derive(Clone)]
pub struct Link {
    pub bus: Bus,
    pub me: u64,
}

impl Transport for Link {
    async fn call(&self, target: u64, _: &str, request: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let (sender, answer) = oneshot::channel();
        self.bus.send_raft(self.me, target, request, sender);
        answer.await.map_err(std::io::Error::other)?
    }
}

impl Node {
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            disk: SimDisk::new(seed, ROOM_BYTES),
            storage: Uuid::from_u128(u128::from(id)),
            lives: 0,
            ahead_ms: 0,
            faster_per_1000: 0,
            paused_until_ms: 0,
            process: None,
        }
    }

    pub fn local_ms(&self, now_ms: u64) -> i64 {
        let faster = now_ms as i64 * self.faster_per_1000 / 1000;
        wall_ms(now_ms) + self.ahead_ms + faster
    }

    /// Starts the process.
    pub fn start(&mut self, bus: &Bus, random: &mut Random) {
        self.lives += 1;
        let life = Life {
            node: self.id,
            number: self.lives,
        };
        let disk = LifeDisk::new(self.disk.clone());
        self.process = Some(Process {
            life,
            disk: disk.clone(),
            quorum: None,
            image: Arc::default(),
            replicas: BTreeMap::new(),
            parts: Parts::default(),
            incarnation: random.next_u64() | 1,
            asked: BTreeMap::new(),
            next_token: 0,
            heard_ms: bus.now_ms(),
            heartbeats: BTreeMap::new(),
            leads_quorum: false,
            duty_until_ms: 0,
        });
        let config = QuorumConfig {
            heartbeat_ms: 100,
            election_ms: 500,
            snapshot_after: 60,
            inline_disk: true,
            ..QuorumConfig::new(self.id, PathBuf::from("quorum"))
        };
        let link = Link {
            bus: bus.clone(),
            me: self.id,
        };
        let images = bus.clone();
        let on_image = move |image, _| images.after(0, Event::Image { life, image });
        let opened = bus.clone();
        tokio::spawn(async move {
            let result = Quorum::open(config, disk, link, on_image).await;
            let result = result.map_err(|error| error.to_string());
            opened.after(0, Event::Opened { life, result });
        });
        bus.after(random.below(TICK_MS), Event::Tick(life));
    }

    /// The process is gone, at once.
    pub fn end(&mut self) {
        if let Some(process) = self.process.take() {
            process.disk.end();
            if let Some(quorum) = process.quorum {
                tokio::spawn(async move { quorum.shutdown().await });
            }
        }
    }
}

impl Process {
    fn me(&self) -> BrokerId {
        BrokerId(self.life.node as i32)
    }

    /// Whether the image knows this life of the broker.
    pub fn is_registered(&self) -> bool {
        let known = self.image.brokers().get(&self.me());
        known.is_some_and(|broker| broker.incarnation == self.incarnation)
    }

    fn epoch(&self) -> u64 {
        self.image
            .brokers()
            .get(&self.me())
            .map_or(0, |broker| broker.epoch)
    }

    /// The quorum's leader as this node knows it.
    fn controller(&self) -> Option<u64> {
        self.quorum.as_ref()?.leader().map(|(id, _)| id)
    }

    pub fn is_controller(&self) -> bool {
        self.quorum.as_ref().is_some_and(Quorum::is_leader)
    }

    /// Whether the quorum was heard of lately.
    pub fn has_lease(&self, now_ms: u64) -> bool {
        now_ms < self.heard_ms + LEASE_MS
    }

    /// Another process is known to have ended, or thought to.
    pub fn misses(&mut self, id: u64) {
        if let Some(quorum) = &self.quorum {
            quorum.lost(id);
        }
        self.heartbeats.insert(BrokerId(id as i32), i64::MIN);
    }

    /// Another one is to lead the quorum.
    pub fn hand_over(&self) {
        if let Some(quorum) = self.quorum.clone() {
            tokio::spawn(async move { quorum.hand_over(HAND_OVER_WAIT).await });
        }
    }

    /// The quorum is open.
    pub fn opened(&mut self, quorum: Quorum) {
        if VOTERS.contains(&self.life.node) {
            let voters = VOTERS.map(|id| (id, format!("node-{id}"))).into();
            let quorum = quorum.clone();
            tokio::spawn(async move { quorum.initialise(voters).await.is_ok() });
        }
        self.quorum = Some(quorum);
    }

    /// There is another image.
    pub fn image_changed(&mut self, image: Arc<Image>, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        if image.version() < self.image.version() {
            return Ok(());
        }
        self.image = image;
        let active = self.is_registered() || is_on(Mutation::LeadFromMemory);
        let image = self.image.clone();
        let layout = scene.judge.layout;
        let me = self.me();
        for index in (0..layout.places()).filter(|_| active) {
            let (topic, partition) = layout.at(index);
            let Some(topic) = image.topic(topic) else {
                continue;
            };
            let entry = &topic.partitions[partition as usize];
            if entry.replicas.contains(&me) {
                if !self.replicas.contains_key(&index) {
                    let replica = Replica::open(&self.disk, index, scene)?;
                    self.replicas.insert(index, replica);
                }
                let replica = self.replicas.get_mut(&index).expect("it was just opened");
                replica.take_role(entry, image.min_insync(topic, entry), scene)?;
            } else if let Some(mut replica) = self.replicas.remove(&index) {
                replica.end_role(scene);
                replica.log.delete().map_err(|error| Fatal(error.to_string()))?;
                scene.judge.durable(scene.life.node, index, 0);
            }
        }
        self.propose(scene);
        self.here(scene).work();
        Ok(())
    }

    /// Brings what leaders propose to the controller.
    pub fn propose(&mut self, scene: &mut Scene<'_>) {
        let (broker, broker_epoch) = (self.me(), self.epoch());
        let mut commands = Vec::new();
        for (index, replica) in &mut self.replicas {
            let Some(proposal) = replica.proposal.take() else {
                continue;
            };
            let (topic, partition) = scene.judge.layout.at(*index);
            let Some(topic) = self.image.topic(topic) else {
                continue;
            };
            let change = PartitionChange {
                topic: topic.id,
                partition: PartitionIndex(partition),
                leader_epoch: replica.epoch,
                partition_epoch: proposal.partition_epoch,
                isr: proposal.isr,
                epochs: Vec::new(),
                version: self.image.version(),
            };
            let purpose = Purpose::InSync {
                partition: *index,
                epoch: replica.epoch,
                partition_epoch: proposal.partition_epoch,
            };
            let changes = vec![change];
            let command = Command::AlterPartition {
                broker,
                broker_epoch,
                changes,
            };
            commands.push((purpose, command));
        }
        for (purpose, command) in commands {
            self.submit(purpose, command, scene);
        }
    }

    fn submit(&mut self, purpose: Purpose, command: Command, scene: &mut Scene<'_>) {
        self.next_token += 1;
        let token = self.life.number << 32 | self.next_token;
        self.asked.insert(token, (purpose, scene.now_ms + ANSWER_MS_MAX));
        match self.controller() {
            Some(id) if id == self.life.node => self.submit_here(id, token, command, scene.bus),
            Some(id) => {
                let command = Box::new(command);
                scene
                    .bus
                    .send(self.life.node, id, Message::Submit { token, command });
            }
            None => {}
        }
    }

    /// Gives a command to the quorum, whose leader this node is.
    pub fn submit_here(&self, origin: u64, token: u64, command: Command, bus: &Bus) {
        let Some(quorum) = self.quorum.clone() else {
            return;
        };
        let (life, bus) = (self.life, bus.clone());
        tokio::spawn(async move {
            let result = quorum.submit(command).await;
            let result = result.map_err(|error| error.to_string());
            let submitted = Event::Submitted {
                life,
                origin,
                token,
                result,
            };
            bus.after(0, submitted);
        });
    }

    /// Learns what became of a command.
    pub fn submitted(
        &mut self,
        token: u64,
        result: Result<Applied, String>,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let Some((purpose, _)) = self.asked.remove(&token) else {
            return Ok(());
        };
        let refused = match result.map(|applied| applied.outcome) {
            Ok(Ok(Outcome::Partitions(results))) => {
                let refusals: Vec<_> = results.into_iter().filter_map(Result::err).collect();
                if refusals.iter().any(PartitionRefusal::is_late) {
                    return self.in_doubt(purpose, scene);
                }
                !refusals.is_empty()
            }
            Ok(Ok(_)) => false,
            // It may come into force later, or it did so when it came before.
            Ok(Err(_)) | Err(_) => return self.in_doubt(purpose, scene),
        };
        match purpose {
            Purpose::InSync {
                partition,
                epoch,
                partition_epoch,
            } if refused => match self.replicas.get_mut(&partition) {
                Some(replica) => replica.proposed(epoch, partition_epoch, true, scene),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn in_doubt(&mut self, purpose: Purpose, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        if let Purpose::InSync {
            partition,
            epoch,
            partition_epoch,
        } = purpose
            && let Some(replica) = self.replicas.get_mut(&partition)
        {
            return replica.proposed(epoch, partition_epoch, false, scene);
        }
        Ok(())
    }

    /// Looks at the clock.
    pub fn tick(&mut self, storage: Uuid, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        let late: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, (_, until_ms))| *until_ms <= scene.now_ms)
            .map(|(token, (purpose, _))| (*token, *purpose))
            .collect();
        for (token, purpose) in late {
            self.asked.remove(&token);
            self.in_doubt(purpose, scene)?;
        }
        self.beat(storage, scene);
        for replica in self.replicas.values_mut() {
            replica.tick(scene)?;
        }
        self.propose(scene);
        self.control(scene);
        self.here(scene).tick()
    }

    fn beat(&mut self, storage: Uuid, scene: &mut Scene<'_>) {
        let Some(controller) = self.controller() else {
            // One that nobody told of the quorum asks its voters.
            if !VOTERS.contains(&self.life.node) && self.quorum.is_some() {
                let voter = VOTERS[scene.random.below(VOTERS.len() as u64) as usize];
                scene.bus.send(self.life.node, voter, Message::Join);
            }
            return;
        };
        if self.is_registered() {
            let heartbeat = Message::Heartbeat {
                epoch: self.epoch(),
                version: self.image.version(),
            };
            scene.bus.send(self.life.node, controller, heartbeat);
        } else if self.image.cluster_id().is_some() && !self.asks(Purpose::Register) {
            let broker = Broker {
                id: self.me(),
                host: format!("node-{}", self.life.node),
                port: 9092,
                rack: Some(format!("rack-{}", self.life.node % 3)),
                peer: Some(format!("node-{}", self.life.node)),
                incarnation: self.incarnation,
                storage,
                features: FEATURE_LEVELS,
                ..Broker::default()
            };
            self.submit(Purpose::Register, Command::RegisterBroker { broker }, scene);
        }
    }

    fn asks(&self, wanted: Purpose) -> bool {
        self.asked.values().any(|(purpose, _)| *purpose == wanted)
    }

    /// Hears another broker.
    pub fn hear(&mut self, from: u64, message: Message, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        match message {
            Message::Submit { token, command } => self.submit_here(from, token, *command, scene.bus),
            Message::Submitted { token, result } => self.submitted(token, result, scene)?,
            Message::Heard => self.heard_ms = scene.now_ms,
            Message::Heartbeat { epoch, version } => self.heartbeat(from, epoch, version, scene),
            Message::Join => {
                if let Some(quorum) = self.quorum.clone().filter(Quorum::is_leader) {
                    let address = format!("node-{from}");
                    tokio::spawn(async move { quorum.add_learner(from, address).await.is_ok() });
                }
            }
            Message::Request { id, request } => self.request(Asker::Broker(from), id, request, scene)?,
            Message::Answer { id, answer } => self.answered(id, answer, scene)?,
            Message::Stream {
                session,
                partition,
                frame,
            } => match self.replicas.get_mut(&partition) {
                Some(replica) => replica.frame(from, session, frame, scene)?,
                None => scene.bus.close(session, [self.life.node, from]),
            },
        }
        self.propose(scene);
        Ok(())
    }

    fn heartbeat(&mut self, from: u64, epoch: u64, version: u64, scene: &mut Scene<'_>) {
        if !self.is_controller() {
            return;
        }
        let id = BrokerId(from as i32);
        let Some(broker) = self
            .image
            .brokers()
            .get(&id)
            .filter(|broker| broker.epoch == epoch)
        else {
            return;
        };
        self.heartbeats.insert(id, scene.local_ms);
        scene.bus.send(self.life.node, from, Message::Heard);
        if broker.fenced && version >= broker.epoch && self.has_time(scene) {
            self.submit(Purpose::Duty, Command::UnfenceBroker { id, epoch }, scene);
        }
    }

    /// The controller's duties.
    fn control(&mut self, scene: &mut Scene<'_>) {
        let leads = self.is_controller();
        if leads && !self.leads_quorum {
            let brokers = self.image.brokers().keys();
            self.heartbeats = brokers.map(|id| (*id, scene.local_ms)).collect();
        }
        self.leads_quorum = leads;
        if !leads || scene.now_ms < self.duty_until_ms {
            return;
        }
        if let Some(command) = self.duty(scene) {
            self.duty_until_ms = scene.now_ms + DUTY_MS;
            self.submit(Purpose::Duty, command, scene);
        }
    }

    fn has_time(&mut self, scene: &Scene<'_>) -> bool {
        let has_time = scene.now_ms >= self.duty_until_ms;
        if has_time {
            self.duty_until_ms = scene.now_ms + DUTY_MS;
        }
        has_time
    }

    fn duty(&self, scene: &mut Scene<'_>) -> Option<Command> {
        if self.image.cluster_id().is_none() {
            return Some(Command::Bootstrap {
                cluster_id: "sim".to_owned(),
                image: None,
            });
        }
        let heard = |id: &BrokerId| self.heartbeats.get(id).copied().unwrap_or(i64::MIN);
        let silent = |(id, broker): &(&BrokerId, &Broker)| {
            !broker.fenced && scene.local_ms.saturating_sub(heard(id)) > LEASE_MS as i64
        };
        if let Some((id, broker)) = self.image.brokers().iter().find(silent) {
            let (id, epoch) = (*id, broker.epoch);
            return Some(Command::FenceBroker { id, epoch });
        }
        let live = self
            .image
            .brokers()
            .values()
            .filter(|broker| !broker.fenced)
            .count();
        let topics = scene.judge.layout.topics();
        let is_missing = |(name, _): &&(&str, usize)| self.image.topic(name).is_none();
        if live >= 3
            && let Some((name, partitions)) = topics.iter().find(is_missing)
        {
            let seed = scene.random.next_u64();
            let partitions = millstream_core::cluster::placement::place(&self.image, *partitions, 3, seed);
            return Some(Command::CreateTopic {
                name: (*name).try_into().expect("a name"),
                id: scene.judge.layout.topic_id(name)?,
                partitions: partitions.ok()?,
                configs: [("min.insync.replicas".to_owned(), "2".to_owned())].into(),
            });
        }
        if live >= 3 && scene.judge.layout.has_transforms() {
            return to_deploy(&self.image, scene.local_ms);
        }
        None
    }
}

/// Lets the world look at what a process does.
pub fn scene<'a>(
    life: Life,
    local_ms: i64,
    bus: &'a Bus,
    judge: &'a mut Judge,
    random: &'a mut Random,
) -> Scene<'a> {
    Scene {
        life,
        now_ms: bus.now_ms(),
        local_ms,
        bus,
        judge,
        random,
    }
}

pub const VOTERS: [u64; 3] = [1, 2, 3];
pub const TICK_MS: u64 = 100;
/// Room on a disk.
pub const ROOM_BYTES: u64 = 1 << 32;
const LEASE_MS: u64 = 1000;
/// How long a node that ends waits for another one to lead the quorum.
const HAND_OVER_WAIT: Duration = Duration::from_millis(500);
const ANSWER_MS_MAX: u64 = 1500;
const DUTY_MS: u64 = 150;
