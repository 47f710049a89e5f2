//! The controller: the one place that decides on changes of the cluster's image.
//!
//! Whoever wants a change submits a command. One thread takes them one by one: it applies the command to a copy of the
//! image, lets new plugins refuse it, appends it to the journal, carries the differences out (partitions are made or
//! deleted), publishes the image, and answers. So an answer means that the change is durable and in force. With several
//! brokers a quorum stands where the journal is now, behind the same [`Controller::apply`].

pub mod journal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use millstream_core::cluster::{self, Command, Image, Outcome, Refusal, placement};
use millstream_core::ids::{TopicId, TopicName};
use millstream_kafka::ErrorCode;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::handlers::admin;
use crate::plugins::Plugins;
use crate::settings::Settings;
use crate::topics::{self, Plan, Topics, is_internal};
use journal::{Journal, JournalError};

/// A handle to the thread that decides.
pub struct Controller {
    image: Arc<ArcSwap<Image>>,
    submissions: mpsc::Sender<Submission>,
    thread: Mutex<Option<JoinHandle<()>>>,
    topics: Arc<Topics>,
    new_topics: NewTopics,
}

/// What a topic gets that is made without saying more than its name.
#[derive(Debug, Clone, Copy)]
struct NewTopics {
    partitions: usize,
    replication_factor: usize,
    partitions_max: usize,
}

enum Submission {
    Apply(Box<Command>, oneshot::Sender<Result<Outcome, Refused>>),
    Stop,
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

/// A command in the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<C> {
    /// Version of the image after the command: a snapshot of this version or a later one holds it already.
    version: u64,
    change: C,
}

/// Why the cluster's image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The snapshot is whole, but no image.
    #[error("the snapshot of the cluster's image cannot be read: {0}")]
    Snapshot(serde_json::Error),
    /// An entry of the journal is whole, but no command.
    #[error("entry {0} of the journal cannot be read: {1}")]
    Entry(usize, serde_json::Error),
    /// An entry of the journal cannot be applied: the journal is not of this image.
    #[error("entry {0} of the journal cannot be applied: {1}")]
    Refused(usize, Refusal),
    /// Entries are missing.
    #[error("entry {0} of the journal leads to version {1} of the image, not {2}")]
    Version(usize, u64, u64),
}

/// Reads the image that the journal in `directory` leads to.
///
/// # Errors
/// The files cannot be read or are damaged; nothing is changed then.
pub fn load(directory: &Path) -> Result<(Journal, Image), LoadError> {
    let (journal, contents) = Journal::open(directory)?;
    let mut image = match &contents.snapshot {
        Some(bytes) => Image::decode(bytes).map_err(LoadError::Snapshot)?,
        None => Image::default(),
    };
    for (n, bytes) in contents.entries.iter().enumerate() {
        let entry: Entry<Command> =
            serde_json::from_slice(bytes).map_err(|error| LoadError::Entry(n, error))?;
        if entry.version <= image.version() {
            continue;
        }
        cluster::apply(&mut image, &entry.change).map_err(|refusal| LoadError::Refused(n, refusal))?;
        if image.version() != entry.version {
            return Err(LoadError::Version(n, image.version(), entry.version));
        }
    }
    Ok((journal, image))
}

impl Controller {
    /// Starts to decide, from `image` on. `topics` runs what is in it already.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(
        settings: &Settings,
        journal: Journal,
        image: Arc<Image>,
        topics: Arc<Topics>,
        plugins: Arc<Plugins>,
    ) -> std::io::Result<Self> {
        let published = Arc::new(ArcSwap::from(image));
        let (submissions, queue) = mpsc::channel(SUBMISSIONS_MAX);
        let decider = Decider {
            journal,
            image: published.clone(),
            topics: topics.clone(),
            plugins,
        };
        let thread = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(move || decider.run(queue))?;
        let new_topics = NewTopics {
            partitions: settings.num_partitions as usize,
            replication_factor: settings.default_replication_factor as usize,
            partitions_max: settings.partitions_max as usize,
        };
        Ok(Self {
            image: published,
            submissions,
            thread: Mutex::new(Some(thread)),
            topics,
            new_topics,
        })
    }

    /// The image as it is now.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// Changes the image. When this returns, the change is durable and in force on this broker.
    ///
    /// # Errors
    /// The command is refused, or cannot be made durable.
    pub async fn apply(&self, command: Command) -> Result<Outcome, Refused> {
        let (sender, receiver) = oneshot::channel();
        let submission = Submission::Apply(Box::new(command), sender);
        self.submissions.send(submission).await.map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?
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
        let refused = self.apply(command).await.err();
        let found = self.topics.find(&name, Uuid::nil());
        found.map_err(|code| refused.unwrap_or_else(|| Refused::new(code, "the topic was deleted at once")))
    }

    /// Ends the thread after what was submitted before. Blocks.
    pub fn stop(&self) {
        if self.submissions.blocking_send(Submission::Stop).is_err() {
            return;
        }
        if let Some(thread) = self.thread.lock().expect("no panic while joining").take() {
            let _ = thread.join();
        }
    }
}

/// What the thread holds.
struct Decider {
    journal: Journal,
    image: Arc<ArcSwap<Image>>,
    topics: Arc<Topics>,
    plugins: Arc<Plugins>,
}

impl Decider {
    fn run(mut self, mut queue: mpsc::Receiver<Submission>) {
        while let Some(Submission::Apply(command, answer)) = queue.blocking_recv() {
            let outcome = self.decide(&command);
            if let Err(refused) = &outcome {
                tracing::debug!(?command, reason = %refused.message, "command refused");
            }
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }

    fn decide(&mut self, command: &Command) -> Result<Outcome, Refused> {
        // Nothing has changed yet when this panics, so whoever can make it do so ends nothing but the command.
        let considered = catch_unwind(AssertUnwindSafe(|| self.consider(command)));
        let considered = considered.unwrap_or_else(|_| {
            tracing::error!(?command, "a command is not carried out: considering it failed");
            let message = "the command could not be considered; the broker's log says more";
            Err(Refused::new(ErrorCode::UnknownServerError, message))
        });
        let (outcome, change) = considered?;
        let Some(plan) = change else {
            return Ok(outcome);
        };
        self.write(plan.image(), command)?;
        let failures = self.topics.carry_out(&plan);
        self.image.store(plan.image().clone());
        match failures.first() {
            None => Ok(outcome),
            Some(first) => Err(Refused::new(
                ErrorCode::KafkaStorageError,
                format!(
                    "{} partitions cannot be opened, the first: {first}",
                    failures.len()
                ),
            )),
        }
    }

    /// What a command comes to, and how the image is to change, if it is.
    fn consider(&self, command: &Command) -> Result<(Outcome, Option<Plan>), Refused> {
        let before = self.image.load_full();
        let mut next = Image::clone(&before);
        let outcome = cluster::apply(&mut next, command).map_err(Refused::from)?;
        if next.version() == before.version() {
            return Ok((outcome, None));
        }
        let plan = self.topics.plan(Arc::new(next));
        for attached in plan.fresh() {
            let checked = self.plugins.check(attached);
            checked.map_err(|reason| Refused::new(ErrorCode::InvalidConfig, reason))?;
        }
        Ok((outcome, Some(plan)))
    }

    fn write(&mut self, next: &Image, command: &Command) -> Result<(), Refused> {
        let entry = Entry {
            version: next.version(),
            change: command,
        };
        let bytes = serde_json::to_vec(&entry).expect("a command holds nothing that JSON cannot say");
        self.journal.append(&bytes).map_err(|error| {
            tracing::error!(%error, "the journal takes no more commands");
            Refused::new(ErrorCode::KafkaStorageError, error.to_string())
        })?;
        if self.journal.wants_snapshot()
            && let Err(error) = self.journal.snapshot(&next.encode())
        {
            tracing::error!(%error, "the journal grows on: it cannot be replaced by a snapshot");
        }
        Ok(())
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

/// Commands that wait to be decided on; more wait at their senders.
const SUBMISSIONS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use millstream_core::ids::BrokerId;

    use super::*;

    fn create(name: &str, id: u128) -> Command {
        Command::CreateTopic {
            name: TopicName::new(name).unwrap(),
            id: TopicId(Uuid::from_u128(id)),
            partitions: vec![vec![BrokerId(1)]],
            configs: Default::default(),
        }
    }

    fn write(journal: &mut Journal, image: &mut Image, command: &Command) {
        cluster::apply(image, command).unwrap();
        let entry = Entry {
            version: image.version(),
            change: command,
        };
        journal.append(&serde_json::to_vec(&entry).unwrap()).unwrap();
    }

    #[test]
    fn the_journal_leads_to_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut image) = load(dir.path()).unwrap();
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            write(&mut journal, &mut image, &create(name, n as u128 + 1));
        }
        drop(journal);
        let (mut journal, loaded) = load(dir.path()).unwrap();
        assert_eq!(loaded.encode(), image.encode());
        journal.snapshot(&image.encode()).unwrap();
        write(&mut journal, &mut image, &create("d", 9));
        drop(journal);
        assert_eq!(load(dir.path()).unwrap().1.encode(), image.encode());
    }

    #[test]
    fn entries_that_a_snapshot_holds_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut image) = load(dir.path()).unwrap();
        write(&mut journal, &mut image, &create("a", 1));
        write(&mut journal, &mut image, &create("b", 2));
        let entries = std::fs::read(dir.path().join("cluster.log")).unwrap();
        journal.snapshot(&image.encode()).unwrap();
        drop(journal);
        // As after a crash between the snapshot and the cutting of the journal.
        std::fs::write(dir.path().join("cluster.log"), entries).unwrap();
        assert_eq!(load(dir.path()).unwrap().1.encode(), image.encode());
    }

    #[test]
    fn a_journal_with_a_gap_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut image) = load(dir.path()).unwrap();
        cluster::apply(&mut image, &create("a", 1)).unwrap();
        write(&mut journal, &mut image, &create("b", 2));
        drop(journal);
        assert!(matches!(load(dir.path()), Err(LoadError::Version(0, 1, 2))));
    }
}
