//! What is in force on this broker: the image, and the topics that run under it. One thread at a time puts another
//! image in force; everybody may wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use millstream_core::cluster::{self, Command, Image, Outcome};
use millstream_kafka::ErrorCode;
use tokio::sync::watch;

use super::Refused;
use super::departed::Departed;
use crate::context::Context;
use crate::plugins::Plugins;
use crate::topics::{Plan, Topics};

/// The image as this broker has carried it out.
pub struct InForce {
    image: ArcSwap<Image>,
    version: watch::Sender<u64>,
    topics: Arc<Topics>,
    plugins: Arc<Plugins>,
    context: OnceLock<Weak<Context>>,
    departed: Departed,
}

impl InForce {
    /// `topics` runs what is in `image` already.
    pub fn new(image: Arc<Image>, topics: Arc<Topics>, plugins: Arc<Plugins>) -> Self {
        Self {
            version: watch::Sender::new(image.version()),
            image: ArcSwap::from(image),
            topics,
            plugins,
            context: OnceLock::new(),
            departed: Departed::default(),
        }
    }

    /// The image.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    /// Brokers that went out of service.
    pub fn departed(&self) -> &Departed {
        &self.departed
    }

    /// The topics that run under it.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// Whether a partition found the disk full not long ago.
    pub fn has_full_partitions(&self) -> bool {
        let context = self.context.get().and_then(Weak::upgrade);
        let failed = context.map(|context| context.replication.failed_partitions());
        failed.is_some_and(|failed| failed.iter().any(|partition| !partition.has_failed()))
    }

    /// Says who else is to hear of every image, and tells them of this one.
    pub fn tell(&self, context: &Arc<Context>) {
        if self.context.set(Arc::downgrade(context)).is_ok() {
            self.announce();
        }
    }

    /// Resolves when an image of this version, or a later one, is in force; false if that takes longer than `wait`.
    pub async fn reaches(&self, version: u64, wait: Duration) -> bool {
        let mut versions = self.version.subscribe();
        let reached = versions.wait_for(|now| *now >= version);
        matches!(tokio::time::timeout(wait, reached).await, Ok(Ok(_)))
    }

    /// What a command would come to on top of `before`, and how topics are to change, if they are. Plugins that it would
    /// attach refuse it where they cannot run. Blocks.
    pub fn consider(&self, before: &Image, command: &Command) -> Result<(Outcome, Option<Plan>), Refused> {
        // Nothing has changed yet when this panics, so whoever can make it do so ends nothing but the command.
        let considered = catch_unwind(AssertUnwindSafe(|| {
            let mut next = before.clone();
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
        }));
        considered.unwrap_or_else(|_| {
            tracing::error!(?command, "a command is not carried out: considering it failed");
            let message = "the command could not be considered; the broker's log says more";
            Err(Refused::new(ErrorCode::UnknownServerError, message))
        })
    }

    /// Puts another image in force. Gives the reasons why partitions could not be opened. Blocks.
    pub fn put(&self, plan: &Plan) -> Vec<String> {
        let failures = self.topics.carry_out(plan);
        let before = self.image.swap(plan.image().clone());
        self.departed.see(&before, plan.image(), Instant::now());
        // Only now: whoever is refused as nobody leads here is told by the image who does.
        self.topics.step_down(plan.image());
        self.announce();
        self.version.send_replace(plan.image().version());
        failures
    }

    fn announce(&self) {
        let Some(context) = self.context.get().and_then(Weak::upgrade) else {
            return;
        };
        let image = self.image.load_full();
        if let Some(peers) = &context.peers {
            let serving = image.brokers().values().filter(|broker| !broker.fenced);
            peers.set_serving(serving.map(|broker| broker.id).collect());
        }
        context.replication.image_changed(&image);
        context.groups.image_changed(&context);
        context.transactions.image_changed(&context);
        context.workers.image_changed(&context);
    }
}
