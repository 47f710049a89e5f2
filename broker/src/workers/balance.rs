//! Sees to it that the workers of a transform have about as much to do: asks what its partitions cost, and has the cluster
//! give them out anew where one worker has much more than others for some time.
//!
//! One broker does this for a transform: the one that runs its first partition. Two may think so for a while, which does no
//! harm: how partitions are given out, and whether that is worth it, is decided with the image
//! ([`TransformChange::Weigh`]). It is asked here first, so that the cluster's log does not grow by what changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::{Command, Transform, TransformChange};
use millstream_core::ids::TopicName;
use uuid::Uuid;

use super::report::{PartitionReport, reports};
use crate::context::{Context, now_ms};

/// Looks from time to time until the broker shuts down.
pub async fn run(context: Arc<Context>) {
    let mut shutdown = context.shutdown.subscribe();
    let looking = async {
        let mut uneven = BTreeSet::new();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            uneven = look(&context, &uneven).await;
        }
    };
    tokio::select! {
        () = looking => {}
        _ = shutdown.wait_for(|down| *down) => {}
    }
}

/// Looks at the transforms whose first partition this broker runs. Has those weighed that were uneven the last time, too;
/// gives those that are uneven for the first time.
async fn look(context: &Arc<Context>, were_uneven: &BTreeSet<Uuid>) -> BTreeSet<Uuid> {
    let image = context.controller.image();
    let mut uneven = BTreeSet::new();
    for transform in image.transforms().filter(|transform| is_ours(context, transform)) {
        let generation = transform.current.generation;
        let costs = costs(transform, &reports(context, transform).await);
        let name = &transform.spec.name;
        if !context.controller.image().would_weigh(name, generation, &costs) {
            continue;
        }
        if !were_uneven.contains(&transform.id) {
            uneven.insert(transform.id);
            continue;
        }
        tracing::info!(
            transform = name,
            ?costs,
            "partitions are given out by what they cost"
        );
        let command = Command::ChangeTransform {
            name: name.clone(),
            change: TransformChange::Weigh { generation, costs },
            at_ms: now_ms(),
        };
        if let Err(refused) = context.controller.apply(command).await {
            // It is seen again, if it still is so.
            tracing::debug!(
                transform = name,
                reason = refused.message,
                "a transform is not weighed"
            );
        }
    }
    uneven
}

/// Whether this broker looks after a transform, of which something can be given away.
fn is_ours(context: &Context, transform: &Transform) -> bool {
    let workers = transform.spec.workers as usize;
    let first = transform.assignment.first();
    first.is_some_and(|first| first.broker == context.node)
        && !transform.paused
        && transform.canary.is_none()
        && workers > 1
        && transform.assignment.len() > workers
}

/// What partitions cost; one that does nothing costs a little, so that it differs from one that is not known.
pub(super) fn costs(transform: &Transform, reports: &[PartitionReport]) -> BTreeMap<TopicName, Vec<u32>> {
    let mut costs: BTreeMap<TopicName, Vec<u32>> = BTreeMap::new();
    // Reports are in the order of the assignment.
    for (assigned, report) in transform.assignment.iter().zip(reports) {
        let of = costs.entry(assigned.topic.clone()).or_default();
        let partition = usize::try_from(assigned.partition.0).expect("partitions are counted from 0");
        if of.len() <= partition {
            of.resize(partition + 1, 0);
        }
        of[partition] = report.cost.map_or(0, |cost| cost.max(1));
    }
    costs
}

/// Time between two looks.
const LOOK_INTERVAL: Duration = match cfg!(test) {
    true => Duration::from_millis(300),
    false => Duration::from_secs(30),
};
