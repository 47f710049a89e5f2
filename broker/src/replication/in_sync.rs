//! What leaders have to tell the controller: who is in sync, and that a disk failed.
//!
//! Proposals of many partitions travel as one command (KIP-497): while one is under way, the next ones gather.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::cluster::{Command, Outcome, PartitionChange, PartitionRefusal};
use millstream_core::ids::{BrokerId, LeaderEpoch};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::stream::BoxFuture;
use super::{Replication, now_ms};
use crate::context::Context;
use crate::partitions::{Notes, Partition};

/// What replication asks the controller for.
pub trait Cluster: Send + Sync {
    /// Changes in-sync replicas. What became of each change is in the order of the changes.
    fn alter(
        &self,
        changes: Vec<PartitionChange>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), PartitionRefusal>>, NotAltered>>;

    /// Has others take over what this broker leads.
    fn give_up(&self) -> BoxFuture<'_, ()>;
}

/// Why no in-sync replicas were changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAltered {
    /// Nothing was asked for.
    #[error("refused: {0}")]
    Refused(String),
    /// It is not known what became of it: it may still happen.
    #[error("unanswered: {0}")]
    Unknown(String),
}

/// A proposal that was sent.
struct Proposed {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
}

impl Replication {
    /// Brings to the controller what leaders propose, and looks for followers that fall behind, until the broker shuts
    /// down.
    pub async fn run(self: Arc<Self>, cluster: Arc<dyn Cluster>, mut shutdown: watch::Receiver<bool>) {
        if self.dial.is_none() {
            return;
        }
        let every = Duration::from_millis((self.lag_ms_max / 4).clamp(TICK_MS_MIN, TICK_MS_MAX) as u64);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            tokio::join!(self.bring(&*cluster), async {
                loop {
                    ticks.tick().await;
                    let now_ms = now_ms();
                    for partition in self.partitions.all() {
                        partition.tick(now_ms, self.lag_ms_max);
                    }
                }
            })
        };
        tokio::select! {
            ((), ()) = work => {}
            _ = shutdown.wait_for(|down| *down) => {}
        }
        self.stop();
    }

    async fn bring(&self, cluster: &dyn Cluster) {
        loop {
            let Notes { proposing, failed } = self.reports.next().await;
            self.note_failed(failed);
            // Where nobody else is in sync, nobody could take over.
            let leads_a_broken = |p: &Arc<Partition>| p.is_leader() && p.in_sync().len() > 1;
            if self.failed_partitions().iter().any(leads_a_broken) {
                tracing::error!("partitions that are led here take no writes: others are to take over");
                cluster.give_up().await;
            }
            // Read before what the partitions propose: it is never newer than what they knew.
            let version = self.image.load().version();
            let mut proposed = Vec::new();
            let mut changes = Vec::new();
            for partition in proposing {
                if let Some((leader_epoch, proposal)) = partition.take_proposal() {
                    let partition_epoch = proposal.partition_epoch;
                    changes.push(PartitionChange {
                        topic: partition.topic_id,
                        partition: partition.index,
                        leader_epoch,
                        partition_epoch,
                        epochs: self.epochs_of(&proposal.isr),
                        isr: proposal.isr,
                        version,
                    });
                    proposed.push(Proposed {
                        partition,
                        leader_epoch,
                        partition_epoch,
                    });
                }
            }
            while !changes.is_empty() {
                let some = changes.len().min(CHANGES_MAX);
                let outcome = cluster.alter(changes.drain(..some).collect()).await;
                settle(proposed.drain(..some).collect(), outcome);
            }
        }
    }

    /// The lives of brokers: as they said themselves, or else as the image has them, which is right for who is in sync
    /// already.
    fn epochs_of(&self, brokers: &[BrokerId]) -> Vec<u64> {
        let image = self.image.load();
        let state = self.lock();
        let epochs = brokers.iter().map(|id| {
            let known = image.brokers().get(id).map(|broker| broker.epoch);
            let said = state.epochs.get(id).copied().filter(|_| *id != self.me);
            said.or(known)
        });
        epochs.collect::<Option<Vec<u64>>>().unwrap_or_default()
    }

    fn note_failed(&self, failed: Vec<Arc<Partition>>) {
        let (mut state, now) = (self.lock(), Instant::now());
        for partition in failed {
            let known = state.failed.iter_mut().find(|(p, _)| Arc::ptr_eq(p, &partition));
            match known {
                Some((_, said)) => *said = now,
                None => state.failed.push((partition, now)),
            }
        }
    }
}

/// Tells the leaders what became of their proposals. Of those that were accepted they hear by the image.
fn settle(proposed: Vec<Proposed>, outcome: Result<Vec<Result<(), PartitionRefusal>>, NotAltered>) {
    match outcome {
        Ok(results) => {
            let mut results = results.into_iter();
            for of in proposed {
                let result = results.next();
                let (topic, partition) = (&of.partition.topic, of.partition.index.0);
                match result {
                    Some(Ok(())) => continue,
                    Some(Err(refusal)) if !refusal.is_late() => {
                        tracing::debug!(%topic, partition, %refusal, "other in-sync replicas are refused");
                        of.partition.proposal_refused(of.leader_epoch, of.partition_epoch);
                    }
                    late => {
                        tracing::debug!(%topic, partition, ?late, "other in-sync replicas were decided on already");
                        of.partition.proposal_failed(of.leader_epoch, of.partition_epoch);
                    }
                }
            }
        }
        Err(NotAltered::Refused(reason)) => {
            tracing::warn!(%reason, partitions = proposed.len(), "other in-sync replicas are refused");
            for of in proposed {
                of.partition.proposal_refused(of.leader_epoch, of.partition_epoch);
            }
        }
        Err(NotAltered::Unknown(reason)) => {
            tracing::warn!(%reason, partitions = proposed.len(), "it is not known whether other replicas are in sync now");
            for of in proposed {
                of.partition.proposal_failed(of.leader_epoch, of.partition_epoch);
            }
        }
    }
}

impl Cluster for Context {
    fn alter(
        &self,
        changes: Vec<PartitionChange>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), PartitionRefusal>>, NotAltered>> {
        Box::pin(async move {
            let Some(broker_epoch) = self.controller.broker_epoch() else {
                return Err(NotAltered::Refused("the broker is not registered".to_owned()));
            };
            let command = Command::AlterPartition {
                broker: self.node,
                broker_epoch,
                changes,
            };
            match self.controller.apply(command).await {
                Ok(Outcome::Partitions(results)) => Ok(results),
                Ok(other) => Err(NotAltered::Unknown(format!("{other:?}"))),
                // Also where it was refused as a whole: it may have been sent before, and carried out.
                Err(refused) => Err(NotAltered::Unknown(refused.message)),
            }
        })
    }

    fn give_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(refused) = self.controller.step_down().await {
                tracing::error!(reason = %refused.message, "nobody takes over the partitions that are led here");
            }
        })
    }
}

/// Most changes of one command.
const CHANGES_MAX: usize = 1000;
/// Time between two looks at the followers, in milliseconds.
const TICK_MS_MIN: i64 = 20;
const TICK_MS_MAX: i64 = 500;
