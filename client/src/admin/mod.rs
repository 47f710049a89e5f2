//! Administration: topics, configs, groups, offsets, transactions, the cluster itself.
//!
//! Every call names its subject in its errors, so that they can be shown to a user as they are.

mod cluster;
mod configs;
mod features;
mod groups;
mod offsets;
mod quorum;
mod replicas;
mod topics;
mod transactions;

use std::time::Duration;

use millstream_kafka::Request;

use crate::cluster::{Client, Purpose};
use crate::error::{Error, Result};

pub use cluster::{BrokerDescription, ClusterDescription, LogDirPartition};
pub use configs::{ConfigChange, ConfigEntry, ConfigOperation, ConfigResource};
pub use features::Feature;
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub(crate) use groups::{commit_offsets, committed_offsets};
pub(crate) use offsets::list_offsets;
pub use offsets::{OffsetAt, OffsetSpec};
pub use quorum::{QuorumDescription, QuorumMember};
pub use replicas::{Election, PartitionReplicas, Reassignment, ReassignmentUnderWay};
pub use topics::NewTopic;
pub use transactions::{ProducerDescription, TransactionDescription, TransactionFilter, TransactionListing};

/// Administrative calls to a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Administration of the cluster that the client is connected to.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
        }
    }

    /// Sends to the controller, in the newest version up to `version_max`, and once more if it has moved.
    async fn ask_controller<R: Request>(
        &self,
        version_max: i16,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response> {
        self.client
            .retry(|| async {
                let seen = self.client.metadata();
                let connection = self.client.controller().await?;
                let version = connection.version::<R>(version_max)?;
                let asked = connection.call_at(version, request, limit).await;
                if asked.as_ref().is_err_and(Error::is_retriable)
                    && let Err(error) = self.client.refresh(&[], &seen).await
                {
                    tracing::debug!(%error, "metadata was not refreshed");
                }
                asked
            })
            .await
    }

    /// Sends to one broker.
    async fn ask_broker<R: Request>(&self, id: i32, request: &R) -> Result<R::Response> {
        self.client
            .retry(|| async {
                let metadata = self.client.metadata();
                let Some(broker) = metadata.brokers.get(&id) else {
                    return Err(Error::Invalid(format!(
                        "there is no broker {id} that can be asked"
                    )));
                };
                let address = broker.address();
                let connection = self.client.connection(&address, Purpose::Requests).await?;
                connection.call(request).await
            })
            .await
    }

    fn limit(&self) -> Duration {
        self.client.config().request_timeout
    }
}
