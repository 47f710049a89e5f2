//! Plugins at work in a whole broker, without the network: what is stored, what is read, what is refused.

pub(crate) mod guests;
mod ingest;
mod partitioner;
mod spread;
mod store;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::cluster::{Command, ConfigUpdate, Plugin, PluginLimits};
use millstream_core::ids::{BrokerId, Offset, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_kafka::records::{self, BatchBuilder, Compression, Scratch};
use uuid::Uuid;

use super::PluginError;
use crate::context::{Context, now_ms};
use crate::controller::Refused;
use crate::ingest::{Refusal, Safety, Stored};
use crate::settings::Settings;
use crate::{Broker, plugins};

/// A broker with a directory of its own.
pub(crate) struct World {
    broker: Option<Broker>,
    directory: tempfile::TempDir,
}

/// A record as a test looks at it: offset, value, headers.
type Seen = (i64, String, BTreeMap<String, String>);

impl World {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = Some(Broker::start(Settings::of_test(directory.path())).await.unwrap());
        Self { broker, directory }
    }

    pub(crate) async fn restart(&mut self) {
        self.broker.take().unwrap().shutdown().await;
        self.broker = Some(
            Broker::start(Settings::of_test(self.directory.path()))
                .await
                .unwrap(),
        );
    }

    pub(crate) async fn end(mut self) {
        self.broker.take().unwrap().shutdown().await;
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        self.broker.as_ref().unwrap().context()
    }

    pub(crate) async fn push(
        &self,
        name: &str,
        component: Vec<u8>,
    ) -> Result<(Arc<Plugin>, bool), PluginError> {
        let context = self.context();
        let (name, limits) = (name.to_owned(), PluginLimits::default());
        context
            .plugins
            .push(context, name, None, limits, component.into())
            .await
    }

    pub(crate) async fn create(
        &self,
        name: &str,
        partitions: usize,
        configs: &[(&str, &str)],
    ) -> Result<(), Refused> {
        let command = Command::CreateTopic {
            name: TopicName::new(name).unwrap(),
            id: TopicId(Uuid::new_v4()),
            partitions: vec![vec![BrokerId(1)]; partitions],
            configs: configs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        self.context().controller.apply(command).await.map(|_| ())
    }

    pub(crate) async fn configure(&self, name: &str, configs: &[(&str, &str)]) -> Result<(), Refused> {
        let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let command = Command::AlterConfigs {
            topic: TopicName::new(name).unwrap(),
            update: ConfigUpdate::Replace(configs.collect()),
        };
        self.context().controller.apply(command).await.map(|_| ())
    }

    pub(crate) async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
    ) -> Result<Stored, Refusal> {
        let context = self.context();
        let topic = context.topics.find(topic, Uuid::nil()).unwrap();
        let entrance = crate::ingest::entrance(context, &topic, partition)?;
        let mut stored =
            crate::ingest::store(context, &topic, &entrance, batch, Safety::InSync, None).await?;
        for durable in std::mem::take(&mut stored.durable) {
            durable.await.unwrap().unwrap();
        }
        Ok(stored)
    }

    /// The batches of a partition, as they are stored.
    pub(crate) fn stored(&self, topic: &str, partition: i32) -> Bytes {
        let topic = self.context().topics.find(topic, Uuid::nil()).unwrap();
        let read = topic
            .partition(partition)
            .unwrap()
            .read(Offset(0), 1 << 20, true)
            .unwrap();
        read.slice
            .map(|slice| slice.read_blocking().unwrap().into())
            .unwrap_or_default()
    }

    /// The batches of a partition of a view, computed.
    async fn view(&self, topic: &str, partition: i32) -> Result<Bytes, ErrorCode> {
        let context = self.context();
        let topic = context.topics.find(topic, Uuid::nil()).unwrap();
        let partition = topic.partition(partition).unwrap();
        let slice = partition.read(Offset(0), 1 << 20, true).unwrap().slice.unwrap();
        plugins::view::compute(context, topic.view().unwrap(), partition, slice).await
    }

    pub(crate) fn values(&self, topic: &str, partition: i32) -> Vec<(i64, String)> {
        values(&self.stored(topic, partition))
    }
}

/// A batch with these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    filled(BatchBuilder::new(), values)
}

/// The same of an idempotent producer.
fn batch_of(producer: i64, sequence: i32, values: &[&str]) -> Bytes {
    filled(BatchBuilder::new().producer(producer, 0, sequence), values)
}

pub(crate) fn filled(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    builder = builder.compression(Compression::Lz4);
    for value in values {
        builder
            .append(now_ms(), Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

fn seen(bytes: &[u8]) -> Vec<Seen> {
    let mut scratch = Scratch::new();
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for batch in records::batches(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.records(&mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            let headers = record.headers.iter();
            let headers = headers.map(|h| (text(h.key), h.value.map_or("null".to_owned(), text)));
            found.push((
                record.offset,
                text(record.value.unwrap_or_default()),
                headers.collect(),
            ));
        }
    }
    found
}

fn values(bytes: &[u8]) -> Vec<(i64, String)> {
    seen(bytes)
        .into_iter()
        .map(|(offset, value, _)| (offset, value))
        .collect()
}

fn texts(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected
        .iter()
        .map(|(offset, value)| (*offset, (*value).to_owned()))
        .collect()
}
