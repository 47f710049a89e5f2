//! A cluster of nodes in one thread: simulated disks, a network that can be cut, and a clock that jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::cluster::Command;
use millstream_core::ids::BrokerId;
use millstream_storage::sim_disk::SimDisk;

use crate::{Applied, Quorum, QuorumConfig, Transport};

/// The nodes, their disks and the network between them.
pub struct Scene {
    disks: BTreeMap<u64, SimDisk>,
    network: Network,
    snapshot_after: u64,
    seed: u64,
}

#[derive(Clone, Default)]
struct Network(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u64, Quorum>,
    cut_off: BTreeSet<u64>,
}

#[derive(Clone)]
struct Wire {
    from: u64,
    network: Network,
}

impl Transport for Wire {
    async fn call(&self, target: u64, address: &str, request: Vec<u8>) -> io::Result<Vec<u8>> {
        if address != address_of(target) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let find = || {
            let wires = self.network.0.lock().unwrap();
            let is_cut = [self.from, target].iter().any(|end| wires.cut_off.contains(end));
            let node = wires.nodes.get(&target).filter(|_| !is_cut).cloned();
            node.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        let answer = find()?.handle(&request).await.map_err(io::Error::other)?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        find()?;
        Ok(answer)
    }
}

pub fn address_of(id: u64) -> String {
    format!("node-{id}:9094")
}

pub fn command(count: u32) -> Command {
    let broker = BrokerId(0);
    Command::AllocateProducerIds { broker, count }
}

impl Scene {
    /// Nodes 1 to `voters`, which vote.
    pub async fn begin(seed: u64, voters: u64, snapshot_after: u64) -> Self {
        crate::seed_thread(Some(seed));
        let mut scene = Self {
            disks: BTreeMap::new(),
            network: Network::default(),
            snapshot_after,
            seed,
        };
        let addresses: BTreeMap<_, _> = (1..=voters).map(|id| (id, address_of(id))).collect();
        for id in 1..=voters {
            scene.start(id).await;
        }
        for id in 1..=voters {
            assert!(!scene.node(id).is_initialised());
            // Everyone is told, and told again.
            scene.node(id).initialise(addresses.clone()).await.unwrap();
            scene.node(id).initialise(addresses.clone()).await.unwrap();
            assert!(scene.node(id).is_initialised());
        }
        scene
    }

    /// Starts a node on its disk.
    pub async fn start(&mut self, id: u64) {
        let new_disk = || SimDisk::new(self.seed * 100 + id, 1 << 30);
        let disk = self.disks.entry(id).or_insert_with(new_disk).clone();
        let config = QuorumConfig {
            snapshot_after: self.snapshot_after,
            inline_disk: true,
            ..QuorumConfig::new(id, PathBuf::from("data/quorum"))
        };
        let wire = Wire {
            from: id,
            network: self.network.clone(),
        };
        let last = Mutex::new((0, 0));
        let node = Quorum::open(config, disk, wire, move |image, index| {
            let mut last = last.lock().unwrap();
            assert!((image.version(), index) > *last, "images come in order");
            *last = (image.version(), index);
        });
        let node = node.await.unwrap();
        self.network.0.lock().unwrap().nodes.insert(id, node);
    }

    pub fn node(&self, id: u64) -> Quorum {
        self.network.0.lock().unwrap().nodes[&id].clone()
    }

    /// A node ends in order.
    pub async fn stop(&self, id: u64) {
        let node = self.network.0.lock().unwrap().nodes.remove(&id).unwrap();
        node.shutdown().await;
    }

    /// The power of a node fails.
    pub async fn crash(&self, id: u64) {
        let node = self.network.0.lock().unwrap().nodes.remove(&id).unwrap();
        // Files of the time before are closed to it.
        self.disks[&id].crash();
        node.shutdown().await;
    }

    /// A node's disk is replaced by an empty one.
    pub async fn lose_disk(&mut self, id: u64) {
        self.crash(id).await;
        self.disks.remove(&id);
    }

    /// The next sync on a node's disk fails.
    pub fn fail_next_sync(&self, id: u64) {
        self.disks[&id].fail_sync_after(0);
    }

    /// A node's disk has no more room than this.
    pub fn leave_room(&self, id: u64, bytes: u64) {
        self.disks[&id].set_free_bytes(bytes);
    }

    pub fn cut_off(&self, id: u64) {
        self.network.0.lock().unwrap().cut_off.insert(id);
    }

    pub fn heal(&self) {
        self.network.0.lock().unwrap().cut_off.clear();
    }

    /// Waits until a node other than `not` leads and all others that run and are reached agree.
    pub async fn leader_other_than(&self, not: Option<u64>) -> Quorum {
        let agreed = || {
            let wires = self.network.0.lock().unwrap();
            let reached = wires.nodes.iter().filter(|(id, _)| !wires.cut_off.contains(id));
            let leaders: BTreeSet<_> = reached.map(|(_, node)| node.leader().map(|(id, _)| id)).collect();
            match leaders.iter().collect::<Vec<_>>()[..] {
                [Some(leader)] if Some(*leader) != not => wires.nodes.get(leader).cloned(),
                _ => None,
            }
        };
        until("all agree on a leader", || agreed().is_some()).await;
        agreed().unwrap()
    }

    pub async fn leader(&self) -> Quorum {
        self.leader_other_than(None).await
    }

    /// Submits commands that each give out `count` producer ids.
    pub async fn submit(&self, leader: &Quorum, commands: u32) -> Applied {
        let mut last = None;
        for _ in 0..commands {
            let applied = leader.submit(command(10)).await.unwrap();
            assert!(applied.outcome.is_ok());
            last = Some(applied);
        }
        last.unwrap()
    }

    /// Waits until these nodes hold version `version`, and checks that they hold the same bytes.
    pub async fn expect_same_image(&self, ids: &[u64], version: u64) -> Vec<u8> {
        let nodes: Vec<_> = ids.iter().map(|id| self.node(*id)).collect();
        let is_there = || nodes.iter().all(|node| node.image().version() == version);
        until("all hold the version", is_there).await;
        let bytes: BTreeSet<_> = nodes.iter().map(|node| node.image().encode()).collect();
        assert_eq!(bytes.len(), 1);
        bytes.into_iter().next().unwrap()
    }
}

/// Waits for a condition, with a deadline on the jumping clock.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a minute passed, but not: {what}");
}
