//! The controller of a broker that is alone: one thread that takes commands one by one, with a journal.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use millstream_core::cluster::{self, Command, Image, Outcome, Refusal};
use millstream_kafka::ErrorCode;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::in_force::InForce;
use super::journal::{Journal, JournalError};
use super::{Refused, stopped};

/// A handle to the thread that decides.
pub struct Lone {
    submissions: mpsc::Sender<Submission>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Submission {
    Apply(Box<Command>, oneshot::Sender<Result<Outcome, Refused>>),
    Stop,
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

impl Lone {
    /// Starts to decide, from what is in force on.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(journal: Journal, in_force: Arc<InForce>) -> std::io::Result<Self> {
        let (submissions, queue) = mpsc::channel(SUBMISSIONS_MAX);
        let decider = Decider { journal, in_force };
        let thread = std::thread::Builder::new()
            .name("controller".to_owned())
            .spawn(move || decider.run(queue))?;
        Ok(Self {
            submissions,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Changes the image.
    ///
    /// # Errors
    /// The command is refused, or cannot be made durable.
    pub async fn apply(&self, command: Command) -> Result<Outcome, Refused> {
        let (sender, receiver) = oneshot::channel();
        let submission = Submission::Apply(Box::new(command), sender);
        self.submissions.send(submission).await.map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?
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
    in_force: Arc<InForce>,
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
        let (outcome, change) = self.in_force.consider(&self.in_force.image(), command)?;
        let Some(plan) = change else {
            return Ok(outcome);
        };
        self.write(plan.image(), command)?;
        let failures = self.in_force.put(&plan);
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

/// Commands that wait to be decided on; more wait at their senders.
const SUBMISSIONS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use millstream_core::ids::{BrokerId, TopicId, TopicName};
    use uuid::Uuid;

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
