//! The world: nodes, clients and faults, driven by one event after the other.

use std::collections::BTreeMap;

use millstream_core::cluster::Command;
use millstream_storage::disk::Disk;
use millstream_storage::sim_disk::Random;

use crate::bus::{Bus, Event, Life, Recovery};
use crate::client::{Asker, Client};
use crate::judge::{Judge, PRODUCERS};
use crate::layout::Population;
use crate::message::Message;
use crate::network::{Network, Quality};
use crate::node::{Node, Process, TICK_MS, VOTERS, scene};
use crate::replica::{Fatal, Replica, Role, Scene};
use crate::trace::Trace;
use crate::transactions::{MOVERS, Member, Quiet, READERS, Stage};

/// Everything.
pub struct World {
    pub bus: Bus,
    pub random: Random,
    pub nodes: BTreeMap<u64, Node>,
    pub clients: BTreeMap<u64, Client>,
    pub judge: Judge,
    pub population: Population,
    pub trace: Trace,
    /// Faults go on.
    pub trouble: bool,
    /// When they ended, and how much each client had done by then.
    healed: Option<(u64, BTreeMap<u64, u64>)>,
    /// A disk was lost.
    pub has_lost_disk: bool,
    /// A broker that is being emptied, to be forgotten.
    pub leaving: Option<u64>,
    /// Transforms that every node knew to be paused a moment ago.
    pub quiet: BTreeMap<Stage, Quiet>,
    /// Members of the group of the classic protocol move to the other one, and back.
    pub members_move: bool,
    next_operation: u64,
}

impl World {
    pub fn new(seed: u64, population: Population, trace: Trace) -> Self {
        let mut random = Random(seed);
        let usual = Quality {
            delay_ms_max: 1 + random.below(12),
            late_per_1000: random.below(20),
            lost_per_1000: random.below(6),
            twice_per_1000: random.below(20),
        };
        let bus = Bus::new(Network::new(random.next_u64(), usual));
        let node_count = 3 + random.below(3);
        let mut nodes = BTreeMap::new();
        for id in 1..=node_count {
            let mut node = Node::new(id, random.next_u64());
            node.ahead_ms = random.below(3_600_000) as i64;
            node.faster_per_1000 = random.below(100) as i64 - 50;
            node.disk.create_dir("data".as_ref()).expect("an empty disk");
            nodes.insert(id, node);
        }
        let members_move = population == Population::Transactions && random.below(2) == 0;
        let clients = clients(population, members_move, &mut random);
        let mut judge = Judge::new(population.layout());
        judge.ledger.grants(MOVERS).is_mixed = members_move;
        Self {
            bus,
            random,
            nodes,
            clients,
            judge,
            population,
            trace,
            trouble: true,
            healed: None,
            has_lost_disk: false,
            leaving: None,
            quiet: BTreeMap::new(),
            members_move,
            next_operation: 0,
        }
    }

    /// Lives through it. Ends when a rule is broken or all is well again.
    pub async fn live(&mut self) {
        for node in self.nodes.values_mut() {
            match VOTERS.contains(&node.id) {
                true => node.start(&self.bus, &mut self.random),
                // Others join at any time.
                false => {
                    let delay_ms = self.random.below(10_000);
                    self.bus.after(delay_ms, Event::Recover(Recovery::Start(node.id)));
                }
            }
        }
        for id in self.clients.keys() {
            self.bus.after(500, Event::ClientTick(*id));
        }
        self.bus.after(4000, Event::Fault);
        self.bus.after(1000, Event::Check);
        let trouble_until_ms = 12_000 + self.random.below(12_000);
        loop {
            let (now_ms, event) = self.bus.next().await;
            if self.trouble && now_ms >= trouble_until_ms {
                self.heal(now_ms);
            }
            self.handle(now_ms, event);
            if let Some(panic) = crate::take_panic() {
                self.judge.breaks(|| format!("a panic: {panic}"));
            }
            if self.judge.broken.is_some() || self.is_well(now_ms) {
                return;
            }
            // What the event set off in the quorums happens before the next one.
            tokio::task::yield_now().await;
        }
    }

    fn handle(&mut self, now_ms: u64, event: Event) {
        if let Some(node) = addressee(&event)
            && let Some(node) = self.nodes.get(&node)
            && node.paused_until_ms > now_ms
        {
            self.bus.after(node.paused_until_ms - now_ms, event);
            return;
        }
        match event {
            Event::Raft {
                from,
                to,
                bytes,
                answer,
            } => self.raft(from, to, bytes, answer),
            Event::RaftAnswer { bytes, answer } => {
                let lost = || std::io::Error::other("no answer");
                let result = if bytes.is_empty() { Err(lost()) } else { Ok(bytes) };
                // Whoever asked may have given up.
                let _ = answer.send(result);
            }
            Event::Peer { from, to, message } => {
                self.trace.line(now_ms, || format!("{from} -> {to} {message:?}"));
                self.with(to, |process, scene| process.hear(from, message, scene));
            }
            Event::Closed { node, session } => self.with(node, |process, scene| {
                let mut replicas = process.replicas.values_mut();
                replicas.try_for_each(|replica| replica.closed(session, scene))
            }),
            Event::Request {
                client,
                id,
                to,
                request,
            } => {
                self.trace
                    .line(now_ms, || format!("client {client} -> {to} {request:?}"));
                self.with(to, |process, scene| {
                    process.request(Asker::Client(client), id, request, scene)
                });
            }
            Event::Answer { client, id, answer } => {
                self.trace
                    .line(now_ms, || format!("client {client} hears {answer:?}"));
                if let Some(client) = self.clients.get_mut(&client) {
                    client.answered(id, answer, &mut self.judge);
                    client.tick_soon(&self.bus);
                }
            }
            Event::Image { life, image } => {
                self.trace
                    .line(now_ms, || format!("{life:?} has image {}", image.version()));
                self.judge.image(&image);
                self.of(life, |process, scene| process.image_changed(image, scene));
            }
            Event::Opened { life, result } => self.of(life, |process, _| match result {
                Ok(quorum) => {
                    process.opened(quorum);
                    Ok(())
                }
                Err(error) => Err(Fatal(error)),
            }),
            Event::Submitted {
                life,
                origin,
                token,
                result,
            } => {
                self.trace.line(now_ms, || {
                    format!("{life:?} command {token} of {origin}: {result:?}")
                });
                self.of(life, |process, scene| {
                    if origin == life.node {
                        return process.submitted(token, result, scene);
                    }
                    scene
                        .bus
                        .send(life.node, origin, Message::Submitted { token, result });
                    Ok(())
                });
            }
            Event::Tick(life) => self.tick(life),
            Event::Sync { life, partition } => self.of(life, |process, scene| {
                let synced = match process.replicas.get_mut(&partition) {
                    Some(replica) => replica.sync(scene),
                    None => Ok(()),
                };
                process.propose(scene);
                synced
            }),
            Event::ClientTick(id) => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.tick(&self.bus, now_ms);
                }
            }
            Event::Fault => self.fault(now_ms),
            Event::Recover(recovery) => self.recover(recovery),
            Event::Check => {
                self.compare();
                self.go_on_leaving();
                self.watch_paused();
                self.bus.after(1000, Event::Check);
            }
        }
    }

    fn tick(&mut self, life: Life) {
        let Some(node) = self.nodes.get(&life.node) else {
            return;
        };
        if node.process.as_ref().is_none_or(|process| process.life != life) {
            return;
        }
        let storage = node.storage;
        self.bus.after(TICK_MS, Event::Tick(life));
        self.of(life, |process, scene| process.tick(storage, scene));
    }

    fn raft(&mut self, from: u64, to: u64, bytes: Vec<u8>, answer: Option<crate::bus::RaftAnswer>) {
        let process = self.nodes.get(&to).and_then(|node| node.process.as_ref());
        let Some(quorum) = process.and_then(|process| process.quorum.clone()) else {
            return;
        };
        let bus = self.bus.clone();
        tokio::spawn(async move {
            let answered = quorum.handle(&bytes).await;
            if let (Ok(bytes), Some(answer)) = (answered, answer) {
                bus.answer_raft(to, from, bytes, answer);
            }
        });
    }

    /// Lets the running process of a node do something. One that cannot go on ends.
    pub fn with(&mut self, node: u64, work: impl FnOnce(&mut Process, &mut Scene<'_>) -> Result<(), Fatal>) {
        let now_ms = self.bus.now_ms();
        let Some(node) = self.nodes.get_mut(&node) else {
            return;
        };
        let local_ms = node.local_ms(now_ms);
        let Some(process) = &mut node.process else {
            return;
        };
        let mut scene = scene(
            process.life,
            local_ms,
            &self.bus,
            &mut self.judge,
            &mut self.random,
        );
        let result = work(process, &mut scene).and_then(|()| process.here(&mut scene).settle());
        let stopped = match &process.quorum {
            Some(quorum) if quorum.metrics().state == millstream_quorum::QuorumState::Stopped => {
                Err(Fatal("the quorum's node stopped".to_owned()))
            }
            _ => Ok(()),
        };
        if let Err(Fatal(reason)) = result.and(stopped) {
            let id = node.id;
            self.trace.line(now_ms, || format!("node {id} ends: {reason}"));
            self.trace.fault(now_ms, || format!("node {id} ends: {reason}"));
            self.stop(id, false);
            let delay_ms = 500 + self.random.below(1500);
            self.bus.after(delay_ms, Event::Recover(Recovery::Start(id)));
        }
    }

    /// As [`World::with`], if it is still the same life.
    fn of(&mut self, life: Life, work: impl FnOnce(&mut Process, &mut Scene<'_>) -> Result<(), Fatal>) {
        self.with(life.node, |process, scene| match process.life == life {
            true => work(process, scene),
            false => Ok(()),
        });
    }

    /// Ends a node's process, with the machine's power or without.
    pub fn stop(&mut self, id: u64, power: bool) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if let Some(process) = &mut node.process {
            let life = process.life;
            for replica in process.replicas.values_mut() {
                let mut scene = scene(life, 0, &self.bus, &mut self.judge, &mut self.random);
                replica.end_streams(&mut scene);
            }
        }
        node.end();
        match power {
            true => node.disk.crash(),
            false => node.disk.restart(),
        }
    }

    /// Lets the quorum's leader give a command to the quorum, as an operator would.
    pub fn operate(&mut self, command: Command) {
        self.next_operation += 1;
        let token = u64::MAX - self.next_operation;
        let bus = self.bus.clone();
        let leader = self
            .nodes
            .values()
            .filter_map(|node| node.process.as_ref())
            .find(|process| process.is_controller());
        if let Some(process) = leader {
            process.submit_here(process.life.node, token, command, &bus);
        }
    }

    /// No more faults.
    fn heal(&mut self, now_ms: u64) {
        self.trouble = false;
        self.trace.fault(now_ms, || "no more faults".to_owned());
        self.bus.network(Network::heal);
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.nodes.get_mut(&id).expect("it is there");
            node.disk.set_free_bytes(crate::node::ROOM_BYTES);
            node.paused_until_ms = 0;
            if node.process.is_none() {
                node.start(&self.bus, &mut self.random);
            }
        }
        self.stay();
        let done = self
            .clients
            .iter()
            .map(|(id, client)| (*id, client.done))
            .collect();
        self.remember_healing();
        self.healed = Some((now_ms, done));
    }

    /// Whether all is as it should be, some time after the last fault. It is a broken rule if that takes too long.
    fn is_well(&mut self, now_ms: u64) -> bool {
        let Some((healed_ms, done)) = &self.healed else {
            return false;
        };
        let lacking = self.lacking(done);
        if lacking.is_none() {
            self.compare();
            for partition in 0..self.judge.layout.places() {
                self.judge_end(partition);
            }
            self.judge_transactions();
            return true;
        }
        if now_ms > healed_ms + WELL_MS_MAX {
            let lacking = lacking.unwrap_or_default();
            self.judge
                .breaks(|| format!("{WELL_MS_MAX} ms after the last fault: {lacking}"));
        }
        false
    }

    fn lacking(&self, done: &BTreeMap<u64, u64>) -> Option<String> {
        for client in self.clients.values() {
            if client.done < done[&client.id] + 3 {
                let (id, n) = (client.id, client.done);
                return Some(format!("client {id} got {n} done and no more"));
            }
        }
        for partition in 0..self.judge.layout.places() {
            let Some(entry) = self.judge.entry(partition) else {
                return Some("there is no topic".to_owned());
            };
            let in_sync = entry.isr.len() == entry.replicas.len() && !entry.is_moving();
            let leader = self.leader(partition);
            let established = leader.is_some_and(|replica| match &replica.role {
                Role::Leader { leader, .. } => leader.is_established(),
                _ => false,
            });
            if !in_sync || !established {
                return Some(format!("partition {partition} is {entry:?}"));
            }
        }
        self.lacking_parts()
    }

    pub fn leader(&self, partition: i32) -> Option<&Replica> {
        let id = self.judge.entry(partition)?.leader?.0 as u64;
        let replica = self.nodes.get(&id)?.process.as_ref()?.replicas.get(&partition)?;
        matches!(replica.role, Role::Leader { .. }).then_some(replica)
    }

    fn judge_end(&mut self, partition: i32) {
        let log = self.leader(partition).map(Replica::safe_bytes);
        match log {
            Some(Ok(log)) => self.judge.ends_with(partition, &log),
            Some(Err(Fatal(error))) => self.judge.breaks(|| error),
            None => {}
        }
    }

    /// Compares the logs of all nodes.
    fn compare(&mut self) {
        for partition in 0..self.judge.layout.places() {
            let mut logs = Vec::new();
            for node in self.nodes.values() {
                let process = node.process.as_ref();
                let replica = process.and_then(|process| process.replicas.get(&partition));
                let readable = replica.filter(|replica| !matches!(replica.role, Role::Offline));
                if let Some(Ok(log)) = readable.map(Replica::safe_bytes) {
                    logs.push((node.id, log));
                }
            }
            self.judge.compare(partition, &logs);
        }
    }

    fn recover(&mut self, recovery: Recovery) {
        match recovery {
            Recovery::Start(id) => {
                let node = self.nodes.get_mut(&id).filter(|node| node.process.is_none());
                if let Some(node) = node {
                    node.start(&self.bus, &mut self.random);
                }
            }
            Recovery::Pass(from, to) => self.bus.network(|n| n.pass(from, to)),
            Recovery::Room(id) => {
                if let Some(node) = self.nodes.get(&id) {
                    node.disk.set_free_bytes(crate::node::ROOM_BYTES);
                }
            }
            Recovery::Network => self.bus.network(Network::recover),
            Recovery::Stop(id) => self.stop(id, false),
            Recovery::Resume(stage) => self.resume(stage),
        }
    }
}

fn clients(population: Population, members_move: bool, random: &mut Random) -> BTreeMap<u64, Client> {
    let layout = population.layout();
    let mut clients = BTreeMap::new();
    for partition in (0..layout.places()).filter(|place| layout.holds_values(*place)) {
        let first = 100 + partition as u64 * 10;
        let is_log = population == Population::Log;
        for id in (first..first + PRODUCERS as u64).filter(|_| is_log) {
            clients.insert(id, Client::producer(id, partition, random.next_u64()));
        }
        for n in 5..7 {
            let reader = Client::reader(first + n, partition, random.next_u64(), n == 5, !is_log);
            clients.insert(first + n, reader);
        }
    }
    let groups = [(READERS, 201), (MOVERS, 211)];
    for (group, first) in groups.into_iter().filter(|_| layout.has_transforms()) {
        for id in first..first + MEMBERS {
            let is_classic = group == MOVERS && !(members_move && random.below(3) == 0);
            let member = Member::new(id, group, is_classic);
            clients.insert(id, Client::of_group(id, random.next_u64(), member));
        }
    }
    clients
}

fn addressee(event: &Event) -> Option<u64> {
    match event {
        Event::Raft { to, .. } | Event::Peer { to, .. } | Event::Request { to, .. } => Some(*to),
        Event::Closed { node, .. } => Some(*node),
        Event::Tick(life) | Event::Sync { life, .. } | Event::Image { life, .. } => Some(life.node),
        _ => None,
    }
}

/// Members of each group.
const MEMBERS: u64 = 3;
/// After the last fault, all is well again within this time.
const WELL_MS_MAX: u64 = 30_000;
