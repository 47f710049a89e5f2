//! Administration: topics, configs, groups, offsets, the cluster itself.
//!
//! Every call names its subject in its errors, so that they can be shown to a user as they are.

mod cluster;
mod configs;
mod groups;
mod offsets;
mod topics;

use std::time::Duration;

use millstream_kafka::Request;

use crate::cluster::Client;
use crate::error::Result;

pub use cluster::{BrokerDescription, ClusterDescription, LogDirPartition};
pub use configs::{ConfigChange, ConfigEntry, ConfigOperation, ConfigResource};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub(crate) use groups::{commit_offsets, committed_offsets};
pub(crate) use offsets::list_offsets;
pub use offsets::{OffsetAt, OffsetSpec};
pub use topics::NewTopic;

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
                let connection = self.client.controller().await?;
                let version = connection.version::<R>(version_max)?;
                connection.call_at(version, request, limit).await
            })
            .await
    }

    fn limit(&self) -> Duration {
        self.client.config().request_timeout
    }
}
