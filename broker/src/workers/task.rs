//! One partition of a source, from the time that it is this broker's until it is not: one life (`life.rs`) after the other,
//! until it is stopped or meets what it must not pass.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::{Canary, Command, Guarantee, Start, TransformChange};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::compute::{Room, Shape};
use super::doubt::{Doubt, Origin};
use super::events::Failure;
use super::instance::Instance;
use super::life::Life;
use super::platform::{Place, Trouble, Who};
use super::tally::State;
use crate::context::{Context, now_ms};

/// A partition of a transform, and how it is to be run.
#[derive(Debug, Clone)]
pub struct Task {
    /// The transform's name.
    pub name: String,
    /// Which partition, by its group and transactional id.
    pub who: Who,
    /// Where it reads and writes.
    pub shape: Arc<Shape>,
    /// What is promised.
    pub guarantee: Guarantee,
    /// Where it begins if nothing was committed.
    pub start: Start,
    /// Longest time between two commits.
    pub interval: Duration,
    /// Bytes read after which there is a commit.
    pub bytes: usize,
    /// Which release it runs.
    pub generation: u64,
    /// Set if that is on trial.
    pub canary: Option<Canary>,
    /// The instance that it shares with other partitions.
    pub instance: Arc<Instance>,
    /// Batches that compute at a time on this broker.
    pub threads: Arc<Semaphore>,
    /// What all partitions on this broker have in memory.
    pub room: Room,
}

/// What stands beside a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The release that committed it.
    pub generation: u64,
    /// The offset at which that release began on this partition.
    pub from: i64,
}

impl Beside {
    /// Reads what was kept.
    pub fn of(place: &Place) -> Option<Self> {
        serde_json::from_str(&place.metadata).ok()
    }

    pub(super) fn text(self) -> String {
        serde_json::to_string(&self).expect("two numbers")
    }
}

/// How a life ended.
pub enum End {
    /// It is somebody else's partition now, or nobody's.
    Stopped,
    /// It met what it must not pass.
    Failed(Failure, String),
    /// Another life may do better.
    Again(Failure, String),
    /// A sink refused what came of these records: another life finds out of which.
    Unwanted(Origin, String),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(reason) | Trouble::Unwanted(reason) => Self::Failed(Failure::Refused, reason),
            Trouble::Passing(reason) => Self::Again(Failure::Cluster, reason),
            Trouble::Over(reason) => Self::Again(Failure::Fenced, reason),
        }
    }
}

impl Task {
    /// Runs until `stop` says so. Waits for `before`, which had the partition on this broker, to be done with it.
    pub async fn run(
        self,
        context: Arc<Context>,
        mut stop: watch::Receiver<bool>,
        before: Option<JoinHandle<()>>,
    ) {
        if let Some(before) = before {
            // One that hangs is fenced like any other.
            let _ = tokio::time::timeout(BEFORE_WAIT, before).await;
        }
        let (mut pause, mut doubt) = (PAUSE_MIN, Doubt::default());
        loop {
            let begun = Instant::now();
            let mut life = Life::new(&self, context.clone(), doubt);
            let end = life.live(&mut stop).await;
            doubt = life.doubt;
            let (failure, reason) = match end {
                End::Stopped => return,
                End::Failed(failure, reason) => {
                    context.metrics.workers.failed(failure);
                    return self.failed(&context, &mut stop, reason).await;
                }
                End::Again(failure, reason) => (failure, reason),
                End::Unwanted(of, reason) => {
                    if let Err((offset, reason)) = doubt.refused(of, &reason) {
                        context.metrics.workers.failed(Failure::Record);
                        let reason = format!("record at offset {offset}: {reason}");
                        return self.failed(&context, &mut stop, reason).await;
                    }
                    pause = PAUSE_MIN;
                    (Failure::Sink, reason)
                }
            };
            context.metrics.workers.failed(failure);
            let (transform, topic, partition) = (&self.name, &self.who.topic, self.who.partition);
            tracing::debug!(transform, %topic, partition, reason, "a partition of a transform begins anew");
            self.show(State::Starting, Some(reason));
            if begun.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn failed(&self, context: &Arc<Context>, stop: &mut watch::Receiver<bool>, reason: String) {
        let (transform, topic, partition) = (&self.name, &self.who.topic, self.who.partition);
        tracing::warn!(transform, %topic, partition, reason, "a partition of a transform stops");
        self.show(State::Failed, Some(reason.clone()));
        if self.canary.is_some() {
            let reason = format!("{topic}-{partition} failed: {reason}");
            self.change(
                context,
                TransformChange::Rollback {
                    generation: Some(self.generation),
                    reason: Some(reason),
                },
            );
        }
        // It stays, so that whoever asks sees why.
        stopped(stop).await;
    }

    pub(super) fn show(&self, state: State, reason: Option<String>) {
        self.who.board.write(|face| {
            face.state = state;
            face.reason = reason;
        });
    }

    /// Asks for a change of the transform, and goes on.
    pub(super) fn change(&self, context: &Arc<Context>, change: TransformChange) {
        let (context, name) = (context.clone(), self.name.clone());
        tokio::spawn(async move {
            // The change says which release it is about, so that it may come late, or twice.
            for _ in 0..CHANGES_MAX {
                let command = Command::ChangeTransform {
                    name: name.clone(),
                    change: change.clone(),
                    at_ms: now_ms(),
                };
                let Err(refused) = context.controller.apply(command).await else {
                    return;
                };
                tracing::warn!(transform = name, reason = refused.message, "a trial is not ended");
                if refused.refusal.is_some() || *context.shutdown.borrow() {
                    return;
                }
                tokio::time::sleep(PAUSE_MAX).await;
            }
        });
    }
}

/// Resolves when the partition is to be given up.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone: so is the broker.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How long whoever had the partition before may take to be done with it.
const BEFORE_WAIT: Duration = Duration::from_secs(5);
/// How often a change is asked for that nobody can decide.
const CHANGES_MAX: usize = 60;
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
