//! The cluster: its brokers, and what their disks hold.

use millstream_kafka::api::describe_cluster::DescribeClusterRequest;
use millstream_kafka::api::describe_log_dirs::DescribeLogDirsRequest;

use super::Admin;
use crate::cluster::Purpose;
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

/// A cluster and its brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Id of the cluster.
    pub cluster: String,
    /// Broker that takes administrative requests.
    pub controller: i32,
    /// The brokers, by id.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Id.
    pub id: i32,
    /// Host it told clients to use.
    pub host: String,
    /// Port it told clients to use.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

/// What one broker stores of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirPartition {
    /// Id of the broker.
    pub broker: i32,
    /// Directory.
    pub directory: String,
    /// The partition.
    pub at: TopicPartition,
    /// Its size in bytes.
    pub bytes: i64,
}

impl Admin {
    /// The cluster and its brokers.
    ///
    /// # Errors
    /// No broker can be reached.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let request = DescribeClusterRequest {
            endpoint_type: BROKER_ENDPOINTS,
            ..Default::default()
        };
        let answer = self.client.any().await?.call(&request).await?;
        Error::check(answer.error_code, answer.error_message.as_deref(), || {
            "cluster".to_owned()
        })?;
        let mut brokers: Vec<_> = answer
            .brokers
            .iter()
            .map(|broker| BrokerDescription {
                id: broker.broker_id,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_deref().map(str::to_owned),
            })
            .collect();
        brokers.sort_unstable_by_key(|broker| broker.id);
        Ok(ClusterDescription {
            cluster: answer.cluster_id.to_string(),
            controller: answer.controller_id,
            brokers,
        })
    }

    /// What every broker stores, partition by partition.
    ///
    /// # Errors
    /// A broker cannot be reached or refuses.
    pub async fn describe_log_dirs(&self) -> Result<Vec<LogDirPartition>> {
        let mut stored = Vec::new();
        for broker in self.client.metadata().brokers.values() {
            let connection = self
                .client
                .connection(&broker.address(), Purpose::Requests)
                .await?;
            let answer = connection
                .call(&DescribeLogDirsRequest {
                    topics: None,
                    ..Default::default()
                })
                .await?;
            Error::check(answer.error_code, None, || {
                format!("log directories of broker {}", broker.id)
            })?;
            for directory in &answer.results {
                Error::check(directory.error_code, None, || {
                    format!("{} of broker {}", &*directory.log_dir, broker.id)
                })?;
                for topic in &directory.topics {
                    stored.extend(topic.partitions.iter().map(|p| LogDirPartition {
                        broker: broker.id,
                        directory: directory.log_dir.to_string(),
                        at: TopicPartition::new(&*topic.name, p.partition_index),
                        bytes: p.partition_size,
                    }));
                }
            }
        }
        stored.sort_unstable_by(|a, b| (&a.at, a.broker).cmp(&(&b.at, b.broker)));
        Ok(stored)
    }
}

/// Kafka's endpoint type of brokers (KIP-919).
const BROKER_ENDPOINTS: i8 = 1;
