//! Who does the work on files: a thread of its own, or whoever asks, where the same order every time matters more.

use std::io;
use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;

/// A handle to whoever owns `S`. Work is done in the order in which it was asked for.
pub struct Worker<S>(Arc<Place<S>>);

enum Place<S> {
    Inline(Mutex<Option<S>>),
    Thread(Mutex<Option<Thread<S>>>),
}

struct Thread<S> {
    jobs: mpsc::Sender<Job<S>>,
    ended: oneshot::Receiver<()>,
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// The worker was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Send + 'static> Worker<S> {
    /// Works where it is asked to.
    pub fn inline(state: S) -> Self {
        Self(Arc::new(Place::Inline(Mutex::new(Some(state)))))
    }

    /// Works on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn thread(name: &str, mut state: S) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job<S>>();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in queue {
                job(&mut state);
            }
            // Files are closed before anybody hears that they are.
            drop(state);
            let _ = end.send(());
        })?;
        let thread = Thread { jobs, ended };
        Ok(Self(Arc::new(Place::Thread(Mutex::new(Some(thread))))))
    }

    /// Does some work, and waits for it. Once asked for it is done even if nobody waits any more.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        match &*self.0 {
            Place::Inline(state) => {
                let mut state = state.lock().expect("no panic in work on files");
                state.as_mut().map(work).ok_or(Closed)
            }
            Place::Thread(thread) => {
                let (done, result) = oneshot::channel();
                let job: Job<S> = Box::new(move |state| {
                    let _ = done.send(work(state));
                });
                {
                    let thread = thread.lock().expect("no panic while held");
                    let jobs = &thread.as_ref().ok_or(Closed)?.jobs;
                    jobs.send(job).map_err(|_| Closed)?;
                }
                result.await.map_err(|_| Closed)
            }
        }
    }

    /// Finishes what was asked for, and lets go of the files.
    pub async fn close(&self) {
        match &*self.0 {
            Place::Inline(state) => drop(state.lock().expect("no panic in work on files").take()),
            Place::Thread(thread) => {
                let thread = thread.lock().expect("no panic while held").take();
                if let Some(Thread { jobs, ended }) = thread {
                    drop(jobs);
                    let _ = ended.await;
                }
            }
        }
    }
}
