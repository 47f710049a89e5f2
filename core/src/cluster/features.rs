//! Feature levels: what all brokers of a cluster must be able to do before any of them does it.

use super::{Image, Outcome, Refusal};

pub(super) fn set_level(image: &mut Image, level: u16) -> Result<Outcome, Refusal> {
    let current = image.feature_level;
    if level == current {
        return Ok(Outcome::Unchanged);
    }
    if level < current {
        return Err(Refusal::FeatureLevelDown { level, current });
    }
    let cannot = |(lowest, highest): (u16, u16)| !(lowest..=highest).contains(&level);
    if let Some(broker) = image.brokers.values().find(|broker| cannot(broker.features)) {
        let (lowest, highest) = broker.features;
        return Err(Refusal::FeatureLevel {
            level,
            broker: broker.id,
            lowest,
            highest,
        });
    }
    image.feature_level = level;
    Ok(Outcome::Done)
}

/// The lowest and highest feature level that this binary can run.
pub const FEATURE_LEVELS: (u16, u16) = (1, 1);
