//! What a partition writes at a time: the output of what it has read, and the offset behind it, in one transaction where
//! that is promised.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::Guarantee;
use millstream_core::transaction::Producer;
use millstream_kafka::wire::Text;
use tokio::time::Instant;

use super::compute::Output;
use super::platform::{Place, Trouble};
use super::tally::Tally;
use super::task::Task;
use super::writing::Part;
use crate::context::Context;

/// What one commit is to write.
pub struct Bundle {
    /// Who writes.
    pub producer: Producer,
    /// Where its numbers go on.
    pub sequences: Sequences,
    /// What came out. It takes room until it is written.
    pub output: Output,
    /// The offset behind what it came of.
    pub place: Place,
    /// When the oldest record was read that it came of; none if there is none.
    pub read_at: Option<Instant>,
}

/// What it left.
pub struct Committed {
    /// Who writes next.
    pub producer: Producer,
    /// Where its numbers go on.
    pub sequences: Sequences,
    /// What was done.
    pub tally: Tally,
    /// The offset that was committed.
    pub offset: i64,
    /// How long that took since the oldest record was read that it came of.
    pub took: Option<Duration>,
}

/// Next sequence numbers by the place of a sink and partition, where an epoch outlives a commit.
pub type Sequences = HashMap<(usize, i32), i32>;

/// Writes what came out, and the offset behind it.
///
/// # Errors
/// Somebody else has taken over, a sink refuses it, or it cannot be done now; then it may be committed or not.
pub async fn write(context: &Arc<Context>, task: &Task, bundle: Bundle) -> Result<Committed, Trouble> {
    let Bundle {
        producer,
        mut sequences,
        mut output,
        place,
        read_at,
    } = bundle;
    let (parts, mut tally) = (
        std::mem::take(&mut output.parts),
        std::mem::take(&mut output.tally),
    );
    let is_transactional = task.guarantee == Guarantee::ExactlyOnce;
    let mut wanted = Vec::with_capacity(parts.len());
    for (key, builders) in parts {
        let sequence = sequences.entry(key).or_default();
        let mut batches = VecDeque::with_capacity(builders.len());
        for builder in builders {
            let count = builder.len() as i32;
            let builder = builder
                .producer(producer.id, producer.epoch, *sequence)
                .transactional(is_transactional);
            *sequence = sequence.wrapping_add(count) & i32::MAX;
            let batch = builder.finish();
            batches.push_back(batch.map_err(|error| Trouble::Refused(error.to_string()))?);
        }
        wanted.push(Part {
            topic: Text::from(task.shape.sinks[key.0].topic.as_str()),
            partition: key.1,
            batches,
        });
    }
    let who = &task.who;
    let next = if is_transactional {
        who.begin(context, producer, &wanted).await?;
        let written = who.write(context, wanted);
        tokio::try_join!(written, who.commit(context, producer, &place))?;
        // Every transaction has an epoch of its own.
        sequences.clear();
        who.end(context, producer).await?
    } else {
        who.write(context, wanted).await?;
        who.commit(context, producer, &place).await?;
        producer
    };
    tally.commits += 1;
    Ok(Committed {
        producer: next,
        sequences,
        tally,
        offset: place.offset,
        took: read_at.map(|read_at| read_at.elapsed()),
    })
}
