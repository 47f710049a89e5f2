//! What goes wrong, and what operators do meanwhile.

use millstream_core::cluster::{Command, Election, Image, Reassignment, rebalance};
use millstream_core::ids::{BrokerId, PartitionIndex};
use millstream_storage::disk::Disk;
use uuid::Uuid;

use crate::bus::{Event, Recovery};
use crate::layout::Population;
use crate::network::Quality;
use crate::node::VOTERS;
use crate::world::World;

impl World {
    /// The next fault.
    pub fn fault(&mut self, now_ms: u64) {
        if !self.trouble {
            return;
        }
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let id = ids[self.random.below(ids.len() as u64) as usize];
        let other = ids[self.random.below(ids.len() as u64) as usize];
        let other = if other == id {
            ids[(id % ids.len() as u64) as usize]
        } else {
            other
        };
        let span_ms = 100 + self.random.below(3500);
        let told = match self.random.below(22) {
            _ if self.is_workers_turn() => self.worker_fault(now_ms),
            0..4 => self.crash(id, span_ms),
            4..6 => self.kill(id, span_ms),
            6 => {
                // All of them: what was acknowledged is on disks.
                ids.iter().for_each(|id| drop(self.crash(*id, span_ms / 2)));
                "power cut of all".to_owned()
            }
            7..9 => self.part(id, other, span_ms),
            9..11 => self.isolate(id, &ids, span_ms),
            18 => self.leave(id, span_ms),
            17 => self.part_from_controller(id, span_ms),
            11 => self.pause(now_ms, id, span_ms),
            12 => self.fail_sync(id),
            13 => self.fill_disk(id, span_ms),
            14 => self.suffer(span_ms),
            15 => self.lose_disk(id, span_ms),
            16 => self.shut_down(id, span_ms),
            _ => self.operation(id, &ids),
        };
        self.trace.fault(now_ms, || told);
        let delay_ms = 100 + self.random.below(1800);
        self.bus.after(delay_ms, Event::Fault);
    }

    fn is_workers_turn(&mut self) -> bool {
        self.population == Population::Transactions && self.random.below(5) < 2
    }

    fn crash(&mut self, id: u64, span_ms: u64) -> String {
        self.stop(id, true);
        self.bus.after(span_ms, Event::Recover(Recovery::Start(id)));
        format!("power cut of node {id} for {span_ms} ms")
    }

    fn kill(&mut self, id: u64, span_ms: u64) -> String {
        self.stop(id, false);
        self.is_missed(id);
        self.bus.after(span_ms, Event::Recover(Recovery::Start(id)));
        format!("node {id} is killed for {span_ms} ms")
    }

    /// Some of the others find out at once that a process has ended, or believe so.
    fn is_missed(&mut self, id: u64) {
        for (other, node) in &mut self.nodes {
            if *other != id
                && self.random.below(2) == 0
                && let Some(process) = &mut node.process
            {
                process.misses(id);
            }
        }
    }

    fn part(&mut self, from: u64, to: u64, span_ms: u64) -> String {
        self.bus.network(|n| n.block(from, to));
        self.bus.after(span_ms, Event::Recover(Recovery::Pass(from, to)));
        format!("nothing passes from {from} to {to} for {span_ms} ms")
    }

    /// It does not learn what the quorum decides, and goes on with others.
    pub fn part_from_controller(&mut self, id: u64, span_ms: u64) -> String {
        let running = self.nodes.values().filter_map(|node| node.process.as_ref());
        let controller = running
            .filter(|process| process.is_controller())
            .map(|process| process.life.node)
            .next_back();
        let controller = controller.unwrap_or(1);
        self.part(id, controller, span_ms);
        self.part(controller, id, span_ms);
        format!("node {id} and the controller {controller} are parted for {span_ms} ms")
    }

    fn isolate(&mut self, id: u64, ids: &[u64], span_ms: u64) -> String {
        for other in ids.iter().filter(|other| **other != id) {
            self.part(id, *other, span_ms);
            self.part(*other, id, span_ms);
        }
        format!("node {id} is cut off for {span_ms} ms")
    }

    fn pause(&mut self, now_ms: u64, id: u64, span_ms: u64) -> String {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.paused_until_ms = now_ms + span_ms;
        }
        if self.random.below(4) == 0 {
            self.is_missed(id);
        }
        format!("node {id} is paused for {span_ms} ms")
    }

    fn fail_sync(&mut self, id: u64) -> String {
        let syncs = self.random.below(8) as u32;
        if let Some(node) = self.nodes.get(&id) {
            node.disk.fail_sync_after(syncs);
        }
        format!("the disk of node {id} fails after {syncs} syncs")
    }

    fn fill_disk(&mut self, id: u64, span_ms: u64) -> String {
        let left = self.random.below(3000);
        if let Some(node) = self.nodes.get(&id) {
            node.disk.set_free_bytes(left);
        }
        self.bus.after(span_ms, Event::Recover(Recovery::Room(id)));
        format!("the disk of node {id} has {left} bytes left for {span_ms} ms")
    }

    fn suffer(&mut self, span_ms: u64) -> String {
        let quality = Quality {
            delay_ms_max: 1 + self.random.below(150),
            late_per_1000: self.random.below(100),
            lost_per_1000: self.random.below(60),
            twice_per_1000: self.random.below(200),
        };
        self.bus.network(|n| n.suffer(quality));
        self.bus.after(span_ms, Event::Recover(Recovery::Network));
        format!("the network suffers for {span_ms} ms: {quality:?}")
    }

    /// The directory of the partitions is lost, once, and not a voter's: who votes must not forget.
    fn lose_disk(&mut self, id: u64, span_ms: u64) -> String {
        let told = self.crash(id, span_ms);
        if self.has_lost_disk {
            return told;
        }
        self.has_lost_disk = true;
        let fresh = Uuid::from_u128(u128::from(self.random.next_u64()) << 64 | u128::from(id));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.storage = fresh;
            let layout = self.judge.layout;
            for place in 0..layout.places() {
                // One that it never held is not there.
                let _ = node.disk.remove_dir(&layout.dir(place));
            }
        }
        format!("{told}, its partitions are lost")
    }

    fn shut_down(&mut self, id: u64, span_ms: u64) -> String {
        let broker = BrokerId(id as i32);
        if let Some(known) = self.judge.latest().brokers().get(&broker) {
            let epoch = known.epoch;
            self.operate(Command::FenceBroker { id: broker, epoch });
        }
        if let Some(process) = self.nodes.get(&id).and_then(|node| node.process.as_ref()) {
            process.hand_over();
        }
        self.bus.after(150, Event::Recover(Recovery::Stop(id)));
        self.bus.after(200 + span_ms, Event::Recover(Recovery::Start(id)));
        format!("node {id} shuts down for {span_ms} ms")
    }

    /// A broker without a vote is emptied, stopped and forgotten; later it comes back as another one.
    fn leave(&mut self, id: u64, span_ms: u64) -> String {
        if VOTERS.contains(&id) || self.leaving.is_some() {
            return self.kill(id, span_ms);
        }
        self.leaving = Some(id);
        format!("node {id} begins to leave")
    }

    /// The next step of a broker that leaves.
    pub fn go_on_leaving(&mut self) {
        let Some(id) = self.leaving else {
            return;
        };
        let image = self.judge.latest().clone();
        let broker = BrokerId(id as i32);
        let replicas = image.replica_counts().get(&broker).copied().unwrap_or(0);
        let is_up = self.nodes.get(&id).is_some_and(|node| node.process.is_some());
        match image.brokers().get(&broker) {
            None => {
                self.leaving = None;
                self.bus.after(1000, Event::Recover(Recovery::Start(id)));
            }
            Some(known) if !known.draining => self.operate(Command::DrainBroker {
                id: broker,
                draining: true,
            }),
            Some(_) if replicas > 0 => self.operate(planned(&image)),
            Some(_) if is_up => self.stop(id, false),
            Some(known) if known.fenced => self.operate(Command::RemoveBroker { id: broker }),
            Some(_) => {}
        }
    }

    /// Who was leaving stays.
    pub fn stay(&mut self) {
        if let Some(id) = self.leaving.take() {
            let id = BrokerId(id as i32);
            let draining = false;
            self.operate(Command::DrainBroker { id, draining });
        }
    }

    fn operation(&mut self, id: u64, ids: &[u64]) -> String {
        let image = self.judge.latest().clone();
        let layout = self.judge.layout;
        let (topic, partition) = layout.at(self.random.below(layout.places() as u64) as i32);
        let Some(topic) = image.topic(topic) else {
            return "nothing".to_owned();
        };
        let partition = PartitionIndex(partition);
        let command = match self.random.below(5) {
            0 => Command::ElectLeaders {
                kind: Election::Preferred,
                partitions: None,
            },
            1 => Command::DrainBroker {
                id: BrokerId(id as i32),
                draining: self.random.below(2) == 0,
            },
            2 => planned(&image),
            3 => Command::Reassign {
                changes: vec![Reassignment {
                    topic: topic.id,
                    partition,
                    replicas: None,
                }],
            },
            _ => {
                let mut replicas: Vec<_> = ids.iter().map(|id| BrokerId(*id as i32)).collect();
                while replicas.len() > 3 {
                    replicas.remove(self.random.below(replicas.len() as u64) as usize);
                }
                let first = self.random.below(3) as usize;
                replicas.rotate_left(first);
                let replicas = Some(replicas);
                let topic = topic.id;
                Command::Reassign {
                    changes: vec![Reassignment {
                        topic,
                        partition,
                        replicas,
                    }],
                }
            }
        };
        let told = format!("{command:?}");
        self.operate(command);
        told
    }
}

/// What the plan says.
fn planned(image: &Image) -> Command {
    let steps = rebalance::plan(image, 1).into_iter();
    let changes = steps.map(|step| Reassignment {
        topic: step.topic,
        partition: step.partition,
        replicas: Some(step.to),
    });
    Command::Reassign {
        changes: changes.collect(),
    }
}
