//! The producer id that makes retries harmless (KIP-98).
//!
//! A lane takes the current id when it begins, and a new one when the broker has lost track of its sequence numbers.
//! Sequence numbers are per partition, so lanes may use different ids side by side.

use millstream_kafka::api::init_producer_id::InitProducerIdRequest;

use crate::cluster::Client;
use crate::error::{Error, Result};

/// An id and its epoch, as the cluster gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub id: i64,
    pub epoch: i16,
}

impl ProducerId {
    /// What a producer without idempotence writes.
    pub const NONE: Self = Self { id: -1, epoch: -1 };
}

/// The id that lanes of one producer take.
#[derive(Debug, Default)]
pub(super) struct Identity(tokio::sync::Mutex<Option<ProducerId>>);

impl Identity {
    /// The current id, if it is another than `spent`; otherwise a new one.
    pub async fn other_than(&self, spent: Option<ProducerId>, client: &Client) -> Result<ProducerId> {
        let mut current = self.0.lock().await;
        if let Some(usable) = current.filter(|id| Some(*id) != spent) {
            return Ok(usable);
        }
        let new = client.retry(|| ask(client)).await?;
        *current = Some(new);
        Ok(new)
    }
}

async fn ask(client: &Client) -> Result<ProducerId> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let answer = client.any().await?.call(&request).await?;
    Error::check(answer.error_code, None, || "producer id".to_owned())?;
    Ok(ProducerId {
        id: answer.producer_id,
        epoch: answer.producer_epoch,
    })
}
