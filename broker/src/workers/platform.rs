//! How a partition of a transform asks the cluster, and what the answers mean to it; `reading.rs` and `writing.rs` say what it
//! asks for.
//!
//! All of it are requests of Kafka's protocol, answered by the handlers that clients reach too, here or on the broker that
//! is in charge. What passes is tried again until a deadline and never blamed on the plugin.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::{CONSUMER_OFFSETS, Guarantee, Image, TRANSACTION_STATE};
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::wire::Text;
use tokio::time::Instant;

use super::tally::Board;
use crate::context::Context;
use crate::coordinators::places;
use crate::handlers::among::{self, Shared};
use crate::handlers::leaders;

/// Who asks: one partition of a source.
#[derive(Debug, Clone)]
pub struct Who {
    /// The source.
    pub topic: Text,
    /// Which of its partitions.
    pub partition: i32,
    /// The group that keeps its offset.
    pub group: Text,
    /// Its transactional id, if it has transactions.
    pub transactional_id: Option<Text>,
    /// Where it shows how it is.
    pub board: Arc<Board>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It may be done later.
    Passing(String),
    /// Another one has taken over, or the transaction is over: whoever is in charge has to begin anew.
    Over(String),
    /// It is refused, and will be.
    Refused(String),
    /// A topic does not take these records.
    Unwanted(String),
}

/// How far a partition of a source has been done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The offset of the next record.
    pub offset: i64,
    /// What was kept beside it.
    pub metadata: String,
}

impl Trouble {
    /// What a code means.
    pub fn of(code: ErrorCode, doing: &str) -> Self {
        let text = format!("{doing}: {code}");
        match code {
            ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::InvalidTxnState
            | ErrorCode::TransactionAbortable
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::UnknownProducerId
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::DuplicateSequenceNumber
            | ErrorCode::TransactionCoordinatorFenced => Self::Over(text),
            ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp | ErrorCode::MessageTooLarge => {
                Self::Unwanted(text)
            }
            // A coordinator that has not heard of a partition yet attempts nothing for the others.
            ErrorCode::UnknownServerError | ErrorCode::OperationNotAttempted => Self::Passing(text),
            code if code.retriable() => Self::Passing(text),
            _ => Self::Refused(text),
        }
    }

    /// For people.
    pub fn reason(self) -> String {
        match self {
            Self::Passing(reason) | Self::Over(reason) | Self::Refused(reason) | Self::Unwanted(reason) => {
                reason
            }
        }
    }

    /// The same, with what was said of it.
    pub(super) fn because(self, said: &str) -> Self {
        let with = |reason: String| match said {
            "" => reason,
            said => format!("{reason}: {said}"),
        };
        match self {
            Self::Refused(reason) => Self::Refused(with(reason)),
            Self::Unwanted(reason) => Self::Unwanted(with(reason)),
            trouble => trouble,
        }
    }
}

/// The patience that a partition has with something, and what it shows meanwhile.
pub(super) struct Patience<'a> {
    board: &'a Board,
    deadline: Instant,
    pause: Duration,
    is_shown: bool,
}

impl<'a> Patience<'a> {
    pub(super) fn of(who: &'a Who) -> Self {
        Self {
            board: &who.board,
            deadline: Instant::now() + PATIENCE,
            pause: PAUSE_MIN,
            is_shown: false,
        }
    }

    /// Waits a little, longer each time. False if it was enough.
    pub(super) async fn wait(&mut self, reason: &str) -> bool {
        if Instant::now() + self.pause > self.deadline {
            return false;
        }
        self.is_shown = true;
        self.board.write(|face| face.waiting = Some(reason.to_owned()));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// Something went on: the next pause is short again.
    pub(super) fn moved(&mut self) {
        self.pause = PAUSE_MIN;
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.is_shown {
            self.board.write(|face| face.waiting = None);
        }
    }
}

/// Asks a broker.
pub(super) async fn ask<R: Shared>(
    context: &Arc<Context>,
    broker: Option<BrokerId>,
    version: i16,
    request: R,
    doing: &str,
) -> Result<R::Response, Trouble> {
    let broker = broker.ok_or_else(|| Trouble::Passing(format!("{doing}: nobody is in charge")))?;
    let answer = among::ask_any(context, broker, version, request).await;
    answer.map_err(|reason| Trouble::Passing(format!("{doing}: broker {}: {reason}", broker.0)))
}

pub(super) fn check(code: i16, doing: &str) -> Result<(), Trouble> {
    match ErrorCode::from_i16(code) {
        ErrorCode::None => Ok(()),
        code => Err(Trouble::of(code, doing)),
    }
}

pub(super) fn leader(image: &Image, topic: &str, partition: i32) -> Option<BrokerId> {
    let topic = image.topic(topic)?;
    let leader = leaders::leader(image, topic.id.0, partition)?;
    (leader.id != leaders::NOBODY).then_some(BrokerId(leader.id))
}

/// Makes the topics that keep offsets and transactions, if they are not there.
///
/// # Errors
/// They cannot be made now.
pub async fn prepare(context: &Arc<Context>, guarantee: Guarantee) -> Result<(), Trouble> {
    let groups = context.groups.ensure_started(context).await;
    groups.map_err(|code| Trouble::of(code, "making the topic of offsets"))?;
    if guarantee == Guarantee::ExactlyOnce {
        let transactions = context.transactions.ensure_started(context).await;
        transactions.map_err(|code| Trouble::of(code, "making the topic of transactions"))?;
    }
    Ok(())
}

impl Who {
    /// Tries again what passes, until patience is at its end.
    pub(super) async fn patiently<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut patience = Patience::of(self);
        loop {
            match attempt().await {
                Err(Trouble::Passing(reason)) if patience.wait(&reason).await => {}
                done => return done,
            }
        }
    }

    pub(super) fn coordinator(&self, context: &Context) -> Option<BrokerId> {
        let id = self.transactional_id.as_deref()?;
        places::coordinator_of(&context.controller.image(), TRANSACTION_STATE, id)
    }

    pub(super) fn group_coordinator(&self, context: &Context) -> Option<BrokerId> {
        places::coordinator_of(&context.controller.image(), CONSUMER_OFFSETS, &self.group)
    }
}

pub(super) fn no_answer(doing: &str) -> Trouble {
    Trouble::Passing(format!("{doing}: an answer without what was asked for"))
}

/// How long something that passes is tried again.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);
