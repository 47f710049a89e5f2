//! Records that failed on their way in and go to a dead-letter topic.
//!
//! A dead letter is the record as the plugin got it, with headers that tell where it would have gone and why it did not.
//! It goes to the partition with the number of the one it came in by, as far as the topic has so many. Plugins of the
//! dead-letter topic do not see it. If a producer sends a batch again, its dead letters come again too.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::ids::{Offset, TopicName};
use millstream_kafka::records::{BatchBuilder, BuildError, Header};
use uuid::Uuid;

use super::ledger::cut;
use super::remote::Outbox;
use super::seat::Running;
use super::slice::Outgoing;
use crate::context::{Context, now_ms};
use crate::handlers::leaders;
use crate::ingest::{Durable, Refusal};
use crate::partitions::Partition;
use crate::topics::Topic;
use millstream_kafka::ErrorCode;

/// The dead letters of one batch, by the topic that they go to.
#[derive(Debug, Default)]
pub struct DeadLetters {
    letters: BTreeMap<TopicName, Vec<Letter>>,
    bytes: usize,
}

#[derive(Debug)]
struct Letter {
    plugin: Arc<str>,
    version: String,
    delta: i32,
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    /// Names and values.
    headers: Vec<(Bytes, Option<Bytes>)>,
    reason: String,
}

impl DeadLetters {
    /// Keeps a record until its batch is stored.
    pub fn add(&mut self, to: &TopicName, by: &Running, record: &Outgoing<'_>, reason: &str) {
        let copied = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice);
        let headers = record.headers.iter();
        let letter = Letter {
            plugin: by.plugin.0.as_str().into(),
            version: by.plugin.1.to_string(),
            delta: record.delta,
            timestamp_ms: record.timestamp_ms,
            key: copied(record.key),
            value: copied(record.value),
            headers: headers
                .map(|header| (Bytes::copy_from_slice(header.key), copied(header.value)))
                .collect(),
            reason: cut(reason, REASON_BYTES_MAX).to_owned(),
        };
        self.bytes += record.key.map_or(0, <[u8]>::len)
            + record.value.map_or(0, <[u8]>::len)
            + record.headers.raw().len()
            + LETTER_BYTES;
        self.letters.entry(to.clone()).or_default().push(letter);
    }

    /// Bytes of all records, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Appends them to their topics, or puts them into `outbox` where another broker leads. `base_offset` is where their
    /// batch was stored; none where a partitioner spread it. What is given resolves when they are durable.
    ///
    /// # Errors
    /// A topic is gone, or its log takes nothing. Some may have been appended.
    pub fn send(
        self,
        context: &Context,
        from: &Partition,
        base_offset: Option<Offset>,
        outbox: &mut Outbox,
    ) -> Result<Vec<Durable>, Refusal> {
        let mut durable = Vec::new();
        for (name, letters) in self.letters {
            let failed = |code: ErrorCode, reason: String| {
                Refusal::new(
                    code,
                    format!("records cannot go to the dead-letter topic '{name}': {reason}"),
                )
            };
            let topic = context.topics.find(&name, Uuid::nil());
            let topic = topic.map_err(|code| failed(code, "it is not there".to_owned()))?;
            let index = partition(&topic, from);
            let batch = letters
                .iter()
                .try_fold(BatchBuilder::new(), |batch, letter| {
                    letter.append_to(batch, from, base_offset)
                })
                .and_then(BatchBuilder::finish)
                .map_err(|error| failed(ErrorCode::MessageTooLarge, error.to_string()))?;
            match leaders::led(context, &topic, index) {
                Ok(to) => {
                    let receipt = to
                        .append(&batch, now_ms())
                        .map_err(|error| failed(ErrorCode::KafkaStorageError, error.to_string()))?;
                    durable.extend(receipt.durable);
                }
                Err(ErrorCode::NotLeaderOrFollower) => outbox
                    .add(context, topic.id, index, &batch)
                    .map_err(|refusal| failed(refusal.code, refusal.message))?,
                Err(_) => {
                    let reason = format!("partition {index} is not served");
                    return Err(failed(ErrorCode::KafkaStorageError, reason));
                }
            }
        }
        Ok(durable)
    }
}

/// The partition of a dead-letter topic for what came in by another topic's `from`.
pub fn partition(letters: &Topic, from: &Partition) -> i32 {
    from.index.0 % letters.partition_count().max(1)
}

impl Letter {
    fn append_to(
        &self,
        mut batch: BatchBuilder,
        from: &Partition,
        base_offset: Option<Offset>,
    ) -> Result<BatchBuilder, BuildError> {
        let partition = from.index.to_string();
        let offset = base_offset
            .and_then(|base| base.checked_add(self.delta.into()))
            .map(|offset| offset.to_string());
        let own = [
            (PLUGIN, Some(&*self.plugin)),
            (VERSION, Some(&*self.version)),
            (TOPIC, Some(from.topic.as_str())),
            (PARTITION, Some(&*partition)),
            (OFFSET, offset.as_deref()),
            (REASON, Some(&*self.reason)),
        ];
        let kept = self.headers.iter().map(|(key, value)| Header {
            key,
            value: value.as_deref(),
        });
        let own = own.into_iter().map(|(key, value)| Header {
            key: key.as_bytes(),
            value: value.map(str::as_bytes),
        });
        let headers: Vec<Header<'_>> = kept.chain(own).collect();
        batch.append(
            self.timestamp_ms,
            self.key.as_deref(),
            self.value.as_deref(),
            &headers,
        )?;
        Ok(batch)
    }
}

/// Header of a dead letter: the plugin that failed. The offset is null where the record would have got none: behind a
/// partitioner.
pub const PLUGIN: &str = "millstream.plugin";
/// Its version.
pub const VERSION: &str = "millstream.version";
/// The topic that the record is of.
pub const TOPIC: &str = "millstream.topic";
/// Its partition.
pub const PARTITION: &str = "millstream.partition";
/// Its offset.
pub const OFFSET: &str = "millstream.offset";
/// Why it failed.
pub const REASON: &str = "millstream.reason";
/// Longest reason in a header.
pub const REASON_BYTES_MAX: usize = 1024;
/// What the headers of ours and the keeping of a letter take, about.
const LETTER_BYTES: usize = 512;
