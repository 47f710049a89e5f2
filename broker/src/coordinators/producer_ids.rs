//! Ids for idempotent producers, given out from blocks that the cluster's image never gives twice.

use std::sync::Arc;

use millstream_core::cluster::{Command, Outcome};
use millstream_core::ids::{BrokerId, ProducerId};
use millstream_kafka::ErrorCode;
use tokio::sync::Mutex;

use crate::context::Context;

/// The block that ids are taken from now.
#[derive(Debug, Default)]
pub struct ProducerIds {
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// An id that no producer has had.
    ///
    /// # Errors
    /// No further block can be had from the controller.
    pub async fn next(&self, context: &Arc<Context>) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(ProducerId(id));
        }
        let broker = BrokerId(context.settings.node_id);
        let command = Command::AllocateProducerIds {
            broker,
            count: BLOCK_IDS,
        };
        let given = context.controller.apply_in_passing(command).await;
        let given = given.map_err(|refused| match refused.code {
            // As Kafka does: older clients take a timeout for the end.
            ErrorCode::RequestTimedOut => ErrorCode::CoordinatorLoadInProgress,
            code => code,
        })?;
        let Outcome::ProducerIds { first, count } = given else {
            return Err(ErrorCode::UnknownServerError);
        };
        *block = first.0 + 1..first.0 + i64::from(count);
        Ok(first)
    }
}

/// Ids of one block, as many as Kafka's have.
const BLOCK_IDS: u32 = 1000;
