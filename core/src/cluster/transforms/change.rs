//! What happens to a transform once it is deployed: it is paused, scaled, upgraded, rolled back, weighed.

use super::deploy::{check_workers, release, shortened};
use super::weigh::weigh;
use super::{Canary, Transform, TransformChange, TransformRefusal, Trial};
use crate::cluster::{Image, Outcome, PluginRef, Refusal};

/// Changes a transform.
pub(in crate::cluster) fn change(
    image: &mut Image,
    name: &str,
    change: &TransformChange,
    at_ms: i64,
) -> Result<Outcome, Refusal> {
    let transform = image.transform(name);
    let transform = transform.ok_or_else(|| TransformRefusal::Unknown(shortened(name)))?;
    let mut changed = Transform::clone(transform);
    let is_change = match change {
        TransformChange::Pause => !std::mem::replace(&mut changed.paused, true),
        TransformChange::Resume => {
            changed.paused = false;
            changed.since = image.version + 1;
            changed.rolled_back = None;
            true
        }
        TransformChange::Scale { workers } => {
            check_workers(*workers)?;
            std::mem::replace(&mut changed.spec.workers, *workers) != *workers
        }
        TransformChange::Upgrade {
            plugin,
            config,
            trial,
        } => upgrade(image, &mut changed, plugin, config.as_deref(), *trial, at_ms)?,
        TransformChange::Promote { generation } => promote(&mut changed, *generation),
        TransformChange::Rollback { generation, reason } => {
            roll_back(&mut changed, *generation, reason.as_deref())?
        }
        TransformChange::Weigh { generation, costs } => weigh(image, &mut changed, *generation, costs),
    };
    match is_change {
        true => Ok(image.put_transform(changed)),
        false => Ok(Outcome::Unchanged),
    }
}

fn upgrade(
    image: &Image,
    transform: &mut Transform,
    plugin: &PluginRef,
    config: Option<&str>,
    trial: Option<Trial>,
    at_ms: i64,
) -> Result<bool, Refusal> {
    let config = config.unwrap_or(&transform.current.config);
    let next = release(image, plugin, config, at_ms)?;
    if let Some(trial) = &trial {
        check_trial(trial)?;
    }
    if let Some(canary) = &transform.canary {
        // The same wish, sent again.
        if canary.release.is_same(&next) && trial == Some(canary.trial) {
            return Ok(false);
        }
        let refusal = TransformRefusal::CanaryUnderWay {
            transform: transform.spec.name.clone(),
            canary: canary.release.reference().to_string(),
        };
        return Err(refusal.into());
    }
    if transform.current.is_same(&next) {
        return Ok(false);
    }
    match trial {
        Some(trial) => {
            if image.source_partitions(transform).count() < 2 {
                return Err(TransformRefusal::TrialOfOnePartition(transform.spec.name.clone()).into());
            }
            transform.canary = Some(Canary { release: next, trial });
        }
        None => {
            let before = std::mem::replace(&mut transform.current, next);
            transform.previous = Some(before);
        }
    }
    transform.rolled_back = None;
    Ok(true)
}

fn check_trial(trial: &Trial) -> Result<(), TransformRefusal> {
    if !(1..=99).contains(&trial.percent) {
        return Err(TransformRefusal::TrialPercent(trial.percent));
    }
    match trial.errors_permille_max {
        0..=1000 => Ok(()),
        asked => Err(TransformRefusal::TrialErrors(asked)),
    }
}

/// The canary keeps its generation, so that partitions that run it go on.
fn promote(transform: &mut Transform, generation: u64) -> bool {
    let meant = |canary: &mut Canary| canary.release.generation == generation;
    let Some(canary) = transform.canary.take_if(meant) else {
        return false;
    };
    let before = std::mem::replace(&mut transform.current, canary.release);
    transform.previous = Some(before);
    true
}

/// Takes back the canary, else the last upgrade.
fn roll_back(
    transform: &mut Transform,
    generation: Option<u64>,
    reason: Option<&str>,
) -> Result<bool, TransformRefusal> {
    let canary = transform.canary.as_ref().map(|canary| &canary.release);
    let taken_back = canary.unwrap_or(&transform.current).generation;
    if generation.is_some_and(|meant| meant != taken_back) {
        return Ok(false);
    }
    if transform.canary.take().is_none() {
        let before = transform.previous.take();
        let before = before.ok_or_else(|| TransformRefusal::NothingBefore(transform.spec.name.clone()))?;
        transform.current = before;
    }
    transform.rolled_back = reason.map(|reason| reason.chars().take(REASON_CHARACTERS_MAX).collect());
    Ok(true)
}

impl super::Release {
    /// Whether it runs the same plugin with the same configuration.
    fn is_same(&self, other: &Self) -> bool {
        (&self.plugin, self.version, &self.config) == (&other.plugin, other.version, &other.config)
    }
}

/// What is kept of the reason of a rollback.
const REASON_CHARACTERS_MAX: usize = 1000;
