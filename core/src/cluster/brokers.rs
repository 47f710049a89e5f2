//! Brokers: how they become known, are fenced and let in again, are emptied and forgotten.
//!
//! A broker is named by its id, one life of it by its epoch, its disk by `storage`. What it may have lost decides what
//! its registration does to the partitions that it holds: a new life may have lost what was not synced, so the broker is
//! treated as if it had been fenced; another disk holds nothing, so the broker is in sync nowhere.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::partitions::Facts;
use super::{Image, Outcome, Partition, Refusal};
use crate::ids::BrokerId;
use crate::mutation::{Mutation, is_on};

/// A broker of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<String>,
    /// `HOST:PORT` that other brokers reach it at; none for a lone broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Drawn anew at every start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub incarnation: u64,
    /// Names its disk: kept in the data directory, so that another one says that the disk was lost. Nil says nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage: Uuid,
    /// SHA-256 of its certificate, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Whether it serves nobody, and may lead nothing and be in sync nowhere else.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fenced: bool,
    /// Version of the image since which it is not fenced, or was not the last time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub serves_since: u64,
    /// Whether it is being emptied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: bool,
    /// The lowest and highest feature level that its binary can run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub features: (u16, u16),
    /// How many copies must be in sync where it leads and nothing else is set: its `min.insync.replicas`, as it started.
    /// 0 says nothing, as 1 does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_insync: usize,
    /// The image's version at its registration; Kafka's broker epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub epoch: u64,
}

impl Broker {
    /// Whether new replicas may go there.
    pub fn takes_replicas(&self) -> bool {
        !self.fenced && !self.draining
    }

    /// Whether both are one process: nothing can have been lost between them.
    fn is_same_life(&self, other: &Self) -> bool {
        (self.incarnation == other.incarnation || is_on(Mutation::SameLife)) && !self.has_other_disk(other)
    }

    fn has_other_disk(&self, other: &Self) -> bool {
        !is_on(Mutation::SameDisk)
            && self.storage != other.storage
            && !self.storage.is_nil()
            && !other.storage.is_nil()
    }
}

impl Image {
    /// A broker that the command is about, by the name of its life.
    pub(super) fn check_epoch(&self, id: BrokerId, given: u64) -> Result<&Broker, Refusal> {
        let broker = self.brokers.get(&id).ok_or(Refusal::UnknownBroker(id))?;
        let current = broker.epoch;
        match given == current {
            true => Ok(broker),
            false => Err(Refusal::StaleBrokerEpoch { id, given, current }),
        }
    }

    /// Takes a broker out of service, and out of all partitions where others can go on.
    pub(super) fn fence(&mut self, id: BrokerId) {
        self.take_out(id, |partition| partition.depends_on(id), Partition::fence);
    }

    /// Takes a broker out of service that holds nothing any more.
    fn lose_disk(&mut self, id: BrokerId) {
        let holds = |partition: &Partition| partition.isr.contains(&id) || partition.elr.contains(&id);
        self.take_out(id, holds, Partition::lose);
    }

    fn take_out(
        &mut self,
        id: BrokerId,
        wanted: impl Fn(&Partition) -> bool,
        take_out: impl Fn(&mut Partition, BrokerId, &Facts<'_>),
    ) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.fenced = true;
        }
        self.change_partitions(wanted, |partition, facts| take_out(partition, id, facts));
    }
}

/// Whatever a lone broker lost since it was known, nobody could lead in its place: for it, nothing changes.
pub(super) fn register(image: &mut Image, broker: &Broker) -> Result<Outcome, Refusal> {
    check_registration(image, broker)?;
    let id = broker.id;
    let known = image.brokers.get(&id).cloned();
    let same_life = known
        .as_ref()
        .filter(|known| broker.peer.is_none() || known.is_same_life(broker));
    let (fenced, epoch) = match same_life {
        // A lone broker of an older version has no epoch yet.
        Some(known) if known.epoch != 0 => (known.fenced, known.epoch),
        _ => (broker.peer.is_some(), image.version + 1),
    };
    match &known {
        Some(known) if same_life.is_none() && known.has_other_disk(broker) => image.lose_disk(id),
        Some(_) if same_life.is_none() => image.fence(id),
        _ => {}
    }
    let known_min = known.as_ref().map(|known| known.min_insync);
    let registered = Broker {
        fenced,
        draining: known.is_some_and(|known| known.draining),
        epoch,
        ..broker.clone()
    };
    let needs_fewer = known_min.is_some_and(|known| registered.min_insync < known);
    image.brokers.insert(id, registered);
    if needs_fewer {
        image.settle_eligible();
    }
    if !fenced {
        give_leaders(image, id);
    }
    Ok(Outcome::Broker { epoch })
}

fn check_registration(image: &Image, broker: &Broker) -> Result<(), Refusal> {
    let id = broker.id;
    if image.cluster_id.is_some() {
        if broker.peer.is_none() {
            return Err(Refusal::Alone(id));
        }
        let (lowest, highest) = broker.features;
        let level = image.feature_level;
        if !(lowest..=highest).contains(&level) {
            return Err(Refusal::Features {
                id,
                lowest,
                highest,
                level,
            });
        }
    }
    match image.brokers.get(&id) {
        Some(known) if !known.fenced && known.has_other_disk(broker) => Err(Refusal::BrokerIdInUse {
            id,
            host: known.host.clone(),
            port: known.port,
        }),
        _ => Ok(()),
    }
}

pub(super) fn unfence(image: &mut Image, id: BrokerId, epoch: u64) -> Result<Outcome, Refusal> {
    if !image.check_epoch(id, epoch)?.fenced {
        return Ok(Outcome::Unchanged);
    }
    let serves_since = image.version + 1;
    if let Some(broker) = image.brokers.get_mut(&id) {
        broker.fenced = false;
        broker.serves_since = serves_since;
    }
    give_leaders(image, id);
    Ok(Outcome::Done)
}

/// Lets a broker lead what waits for it.
fn give_leaders(image: &mut Image, id: BrokerId) {
    let waits = |partition: &Partition| {
        partition.leader.is_none() && (partition.isr.contains(&id) || partition.elr.contains(&id))
    };
    image.change_partitions(waits, Partition::elect);
}

pub(super) fn fence(image: &mut Image, id: BrokerId, epoch: u64) -> Result<Outcome, Refusal> {
    if image.check_epoch(id, epoch)?.fenced {
        return Ok(Outcome::Unchanged);
    }
    image.fence(id);
    Ok(Outcome::Done)
}

pub(super) fn drain(image: &mut Image, id: BrokerId, draining: bool) -> Result<Outcome, Refusal> {
    let broker = image.brokers.get_mut(&id).ok_or(Refusal::UnknownBroker(id))?;
    match std::mem::replace(&mut broker.draining, draining) == draining {
        true => Ok(Outcome::Unchanged),
        false => Ok(Outcome::Done),
    }
}

pub(super) fn remove(image: &mut Image, id: BrokerId) -> Result<Outcome, Refusal> {
    let broker = image.brokers.get(&id).ok_or(Refusal::UnknownBroker(id))?;
    let replicas = image.replica_counts().get(&id).copied().unwrap_or(0);
    if replicas > 0 {
        return Err(Refusal::BrokerHoldsReplicas { id, replicas });
    }
    if !broker.fenced {
        return Err(Refusal::BrokerLives(id));
    }
    image.brokers.remove(&id);
    image.broker_configs.remove(&id);
    Ok(Outcome::Done)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
