//! An async client of Kafka's protocol: small, bounded, and never surprised by a bad server.
//!
//! Owns connections, the cached picture of the cluster, and three ways to use it: [`Producer`], [`Consumer`] and
//! [`Admin`]. It knows the protocol (`millstream-kafka`) and nothing of the broker's insides, so it speaks to any
//! broker of Kafka's protocol.
//!
//! ```no_run
//! # async fn example() -> millstream_client::Result<()> {
//! use millstream_client::{Client, ClientConfig, Producer, ProducerConfig, ProducerRecord};
//!
//! let client = Client::connect(ClientConfig::new("127.0.0.1:9092")).await?;
//! let producer = Producer::new(&client, ProducerConfig::default());
//! let receipt = producer.send(ProducerRecord::to("flights").value("{}")).await?.await?;
//! println!("partition {} offset {}", receipt.partition, receipt.offset);
//! producer.close().await
//! # }
//! ```
//!
//! | file | what it owns |
//! |---|---|
//! | `connection.rs` | one socket: requests in flight by correlation id, version negotiation |
//! | `cluster.rs` | connections by broker, cached metadata, leaders and coordinators |
//! | `producer/` | batches, sequence numbers and retries, one task per partition |
//! | `consumer/` | fetches, positions, membership of a group |
//! | `admin/` | topics, configs, groups, offsets, transactions, replicas, quorum, cluster |

#![allow(
    clippy::needless_update,
    reason = "a message may get further fields with the next version of the protocol"
)]

mod admin;
mod cluster;
mod config;
mod connection;
mod consumer;
mod error;
mod metadata;
mod producer;

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource,
    Election, Feature, GroupDescription, GroupListing, GroupMember, LogDirPartition, NewTopic, OffsetAt,
    OffsetSpec, PartitionReplicas, ProducerDescription, QuorumDescription, QuorumMember, Reassignment,
    ReassignmentUnderWay, TransactionDescription, TransactionFilter, TransactionListing,
};
pub use cluster::Client;
pub use config::ClientConfig;
pub use connection::Connection;
pub use consumer::{ConsumedRecord, Consumer, ConsumerConfig, Isolation, OffsetReset, Start};
pub use error::{Error, Result};
pub use metadata::{Broker, Metadata, Partition, Topic, TopicPartition};
pub use millstream_kafka::ErrorCode;
pub use millstream_kafka::records::Compression;
pub use producer::{Acks, Delivery, Producer, ProducerConfig, ProducerRecord, Receipt};
