//! Where a consumer begins in partitions that it has no position in.

use std::collections::BTreeMap;

use super::{Consumer, OffsetReset};
use crate::admin::{self, OffsetSpec};
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

impl Consumer {
    /// Finds where to begin: at the committed offset, else where the configuration says.
    pub(super) async fn find_positions(&mut self) -> Result<()> {
        let mut lost: Vec<_> = self
            .partitions
            .iter()
            .filter(|p| p.position.is_none())
            .map(|p| p.at.clone())
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        if let Some(group) = &self.config.group {
            // What was committed here before has been out of range, or it would not be lost.
            let unread: Vec<_> = lost
                .iter()
                .filter(|at| !self.committed.contains_key(at))
                .cloned()
                .collect();
            if self.membership.is_some() && !unread.is_empty() {
                found = admin::committed_offsets(&self.client, group, Some(&unread)).await?;
                self.committed.extend(found.clone());
            }
        }
        lost.retain(|at| !found.contains_key(at));
        if !lost.is_empty() {
            let spec = match self.config.offset_reset {
                OffsetReset::Earliest => OffsetSpec::Earliest,
                OffsetReset::Latest => self.config.isolation.latest(),
                OffsetReset::Fail => {
                    return Err(Error::Invalid(format!(
                        "{} has no valid offset to read on from",
                        lost[0]
                    )));
                }
            };
            found.extend(self.look_up(&lost, spec).await?);
        }
        for partition in &mut self.partitions {
            if let Some(offset) = found.get(&partition.at).filter(|_| partition.position.is_none()) {
                partition.seek(*offset);
            }
        }
        Ok(())
    }

    /// Offsets of partitions; those without one are left out.
    pub(super) async fn look_up(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let asked: Vec<_> = partitions.iter().map(|at| (at.clone(), spec)).collect();
        let found = admin::list_offsets(&self.client, &asked).await?;
        Ok(found
            .into_iter()
            .filter_map(|(at, found)| Some((at, found?.offset)))
            .collect())
    }
}
