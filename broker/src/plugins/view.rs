//! Views: topics that are computed when they are read.
//!
//! A view's batches have the offsets of the batches that they are computed from, holes included, so that consumers move
//! on also where nothing is left. What was computed is kept in a bounded [`cache`](super::cache).

use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_core::ids::TopicName;
use millstream_kafka::ErrorCode;
use millstream_kafka::records::{self, BatchBuilder, BatchView, BuildError, Scratch};

use super::cache::Key;
use super::chain::{self, Failure, Run, Sink};
use super::seat::{Running, Seat};
use super::slice::Outgoing;
use super::stages::{Stage, Stopwatch};
use crate::context::Context;
use crate::metrics::Way;
use crate::partitions::{FileSlice, Partition};
use crate::topics::View;

/// What readers of a view get for the stored batches in `slice`. It covers the same offsets as these, or the first of
/// them where the result would be much larger.
///
/// # Errors
/// The log cannot be read, the plugins cannot run, or the first batch holds records that one fails on whose policy is to
/// fail.
pub async fn compute(
    context: &Arc<Context>,
    view: &View,
    partition: &Arc<Partition>,
    slice: FileSlice,
) -> Result<Bytes, ErrorCode> {
    let mut watch = Stopwatch::start();
    let stored = slice.read().await.map_err(|error| {
        tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "cannot read the log");
        ErrorCode::KafkaStorageError
    })?;
    watch.lap(Stage::Read);
    if view.chain.is_empty() {
        return Ok(stored.into());
    }
    let running = context.plugins.running(&view.chain).await.map_err(|reason| {
        tracing::error!(view = %view.name, reason, "the plugins of a view cannot run; it cannot be read");
        ErrorCode::UnknownServerError
    })?;
    let work = Work {
        context: context.clone(),
        chain: chain::fingerprint(&running),
        view: view.name.clone(),
        partition: partition.clone(),
        stored: stored.into(),
    };
    // What is in the cache needs neither instances nor a thread.
    if let Some(known) = work.known() {
        return Ok(known);
    }
    let seats = chain::take_seats(&view.chain, &running).await;
    let thread = context.plugins.threads.clone().acquire_owned().await;
    let computing = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        work.compute(seats, watch)
    });
    computing.await.map_err(|error| {
        tracing::error!(view = %view.name, %error, "computing a view was interrupted");
        ErrorCode::UnknownServerError
    })?
}

/// What is needed to compute a view's batches.
struct Work {
    context: Arc<Context>,
    chain: [u8; 32],
    view: TopicName,
    partition: Arc<Partition>,
    stored: Bytes,
}

impl Work {
    /// The result, if all of it is in the cache.
    fn known(&self) -> Option<Bytes> {
        let mut found = Vec::new();
        for batch in records::batches(&self.stored) {
            let batch = batch.ok()?;
            found.push(match passes(&batch) {
                true => self.stored.slice_ref(batch.bytes()),
                false => self.context.plugins.cache.find(&self.key(&batch))?,
            });
        }
        Some(joined(found))
    }

    /// Computes what is not in the cache. Blocks.
    fn compute(self, mut seats: Vec<Seat>, mut watch: Stopwatch) -> Result<Bytes, ErrorCode> {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = RefCell::default();
        }
        let bytes_max = self.stored.len().saturating_mul(GROWTH_MAX);
        let mut found = Vec::new();
        let mut bytes = 0;
        watch.resume();
        for batch in records::batches(&self.stored) {
            let computed = batch.map_err(Failure::from).and_then(|batch| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let computed = self.one(&batch, &mut seats, scratch, &mut watch);
                    scratch.shrink(SCRATCH_KEEP_BYTES);
                    computed
                })
            });
            match computed {
                Ok(batch) => {
                    bytes += batch.len();
                    found.push(batch);
                    if bytes > bytes_max {
                        break;
                    }
                }
                // What comes before is served; the reader meets the failure when it is there.
                Err(_) if !found.is_empty() => break,
                Err(failure) => return Err(self.failed(&failure)),
            }
        }
        let joined = joined(found);
        watch.lap(Stage::Encode);
        self.context.metrics.computed(Way::View, &watch);
        Ok(joined)
    }

    fn one(
        &self,
        batch: &BatchView<'_>,
        seats: &mut [Seat],
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
    ) -> Result<Bytes, Failure> {
        if passes(batch) {
            return Ok(self.stored.slice_ref(batch.bytes()));
        }
        let key = self.key(batch);
        let cache = &self.context.plugins.cache;
        if let Some(known) = cache.find(&key) {
            return Ok(known);
        }
        let decompressed_max = self.context.settings.decompressed_max_bytes as usize;
        let data = batch.data(scratch, decompressed_max)?;
        watch.lap(Stage::Decompress);
        let how = Run {
            bytes_max: decompressed_max,
            partitions: 1,
            entrance: 0,
        };
        let mut seen = Seen {
            batch: BatchBuilder::like(batch.header()).capacity(data.len()),
            has_changed: false,
        };
        chain::run(seats, batch, data, how, &mut seen, watch)?;
        let is_same = !seen.has_changed && seen.batch.len() == batch.header().records_count as usize;
        // Its own memory, of just its size, since the cache counts that: a slice would keep all that was read with it,
        // and an encoder reserves for the worst.
        let computed = match is_same {
            true => Bytes::copy_from_slice(batch.bytes()),
            false => Bytes::copy_from_slice(&seen.batch.finish()?),
        };
        let held = cache.keep(key, &computed);
        self.context.metrics.view_cache_bytes.set(held as u64);
        watch.lap(Stage::Encode);
        Ok(computed)
    }

    fn key(&self, batch: &BatchView<'_>) -> Key {
        Key::new(
            self.chain,
            self.partition.topic_id.0,
            self.partition.index.0,
            batch.header(),
        )
    }

    fn failed(&self, failure: &Failure) -> ErrorCode {
        // Complaints about plugins are in the log already, and not more often than is good.
        if !matches!(failure, Failure::Records { .. }) {
            let (view, partition) = (&self.view, self.partition.index.0);
            tracing::error!(%view, partition, reason = failure.message(), "a batch of a view cannot be computed");
        }
        match failure {
            Failure::Batch(_) => ErrorCode::CorruptMessage,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

/// Batches that no plugin sees: markers of the brokers, and those that are empty already.
fn passes(batch: &BatchView<'_>) -> bool {
    batch.header().attributes.is_control() || batch.header().records_count == 0
}

/// What is left of a batch.
struct Seen {
    batch: BatchBuilder,
    has_changed: bool,
}

impl Sink for Seen {
    fn record(&mut self, record: &Outgoing<'_>) -> Result<(), BuildError> {
        let Outgoing {
            delta,
            timestamp_ms,
            key,
            value,
            headers,
            original,
            ..
        } = *record;
        match original {
            Some((span, data)) => self.batch.append_encoded(span, data),
            None => {
                self.has_changed = true;
                self.batch.append_raw(delta, timestamp_ms, key, value, headers)
            }
        }
    }

    fn dead_letter(
        &mut self,
        _: &TopicName,
        _: &Running,
        _: &Outgoing<'_>,
        _: &str,
    ) -> Result<(), BuildError> {
        unreachable!("a view's policy cannot be dead-letter: its configuration is refused")
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }
}

fn joined(mut batches: Vec<Bytes>) -> Bytes {
    if batches.len() == 1 {
        return batches.swap_remove(0);
    }
    let mut all = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for batch in &batches {
        all.extend_from_slice(batch);
    }
    all.freeze()
}

/// How many times larger than what is stored an answer may become before the rest is left to the next fetch.
const GROWTH_MAX: usize = 2;
/// What a thread keeps for decompression between batches.
const SCRATCH_KEEP_BYTES: usize = 4 << 20;
