//! Storing and deleting plugins.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::cluster::{
    Command, Outcome, Plugin, PluginLimits, PluginRef, PluginVersion, Refusal, World,
};
use millstream_runtime as runtime;

use super::{Plugins, seat, store};
use crate::context::{Context, now_ms};
use crate::controller::Refused;

/// Why a plugin was not stored, or not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// There is no such plugin, or no such version.
    #[error("{0}")]
    Unknown(String),
    /// Topics use it.
    #[error("{message}")]
    InUse {
        /// Which, in a sentence.
        message: String,
        /// One by one.
        users: Vec<String>,
    },
    /// The version has other bytes already.
    #[error("{0}")]
    VersionExists(String),
    /// It is no plugin, or those who would use it refuse it.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be kept.
    #[error("{0}")]
    Storage(String),
}

impl Plugins {
    /// Stores a component under a name; false beside it if it was there before. Where `version` is none, other bytes get
    /// the version after the newest. Topics that follow the newest version run it from their next batch on; if it
    /// refuses the configuration of one of them, it is not stored.
    ///
    /// # Errors
    /// No plugin, a version that has other bytes, a disk that fails.
    pub async fn push(
        self: &Arc<Self>,
        context: &Arc<Context>,
        name: String,
        version: Option<PluginVersion>,
        limits: PluginLimits,
        component: Bytes,
    ) -> Result<(Arc<Plugin>, bool), PluginError> {
        let reference = PluginRef::parse(&name).map_err(|error| PluginError::Invalid(error.to_string()))?;
        if reference.name != name {
            let message = format!("'{name}' is no name of a plugin: the version is told apart from it");
            return Err(PluginError::Invalid(message));
        }
        let wanted = seat::limits(&self.settings, &limits, &PluginLimits::default());
        wanted
            .check()
            .map_err(|error| PluginError::Invalid(error.to_string()))?;
        let _storing = self.storing.lock().await;
        let (plugins, size) = (self.clone(), component.len() as u64);
        let bytes = component.clone();
        let kept = tokio::task::spawn_blocking(move || plugins.keep(&bytes)).await;
        let (sha256, world) = kept.map_err(|error| PluginError::Storage(error.to_string()))??;
        if let Err(error) = self.give(context, &sha256, &component).await {
            self.drop_unless_wanted(context, &sha256).await;
            return Err(error);
        }
        let command = Command::RegisterPlugin {
            name,
            version,
            sha256: sha256.clone(),
            world,
            size,
            limits,
            pushed_at_ms: now_ms(),
        };
        let registered = context.controller.apply(command).await;
        if registered.is_err() {
            self.drop_unless_wanted(context, &sha256).await;
        }
        match registered.map_err(refused)? {
            Outcome::Plugin { plugin, created } => Ok((plugin, created)),
            _ => Err(PluginError::Storage(
                "the controller answered something else".to_owned(),
            )),
        }
    }

    /// Deletes a version that nobody uses, and its bytes if no other version has the same.
    ///
    /// # Errors
    /// There is no such version, it is in use, or the disk fails.
    pub async fn delete(
        self: &Arc<Self>,
        context: &Arc<Context>,
        name: String,
        version: PluginVersion,
    ) -> Result<(), PluginError> {
        let _storing = self.storing.lock().await;
        let deleted = context
            .controller
            .apply(Command::DeletePlugin { name, version })
            .await;
        if let Outcome::PluginDeleted(plugin) = deleted.map_err(refused)? {
            self.drop_unless_wanted(context, &plugin.sha256).await;
        }
        self.forget(&context.controller.image());
        Ok(())
    }

    /// Compiles a component and makes it durable.
    pub(super) fn keep(&self, component: &[u8]) -> Result<(String, World), PluginError> {
        let compiled = self
            .engine
            .compile(component)
            .map_err(|error| PluginError::Invalid(error.to_string()))?;
        let world = match compiled.world() {
            runtime::World::Filter => World::Filter,
            runtime::World::Partitioner => World::Partitioner,
            runtime::World::Transform => World::Transform,
        };
        let sha256 = store::hash(component);
        self.store.write(&sha256, component)?;
        let place = self.place(&sha256);
        *place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(compiled);
        Ok((sha256, world))
    }

    /// Removes a component that no version refers to. If that fails, the next start does it.
    async fn drop_unless_wanted(self: &Arc<Self>, context: &Context, sha256: &str) {
        let image = context.controller.image();
        if image.plugins().any(|plugin| plugin.sha256 == sha256) {
            return;
        }
        self.forget(&image);
        let (store, sha256) = (self.store.clone(), sha256.to_owned());
        let removed = tokio::task::spawn_blocking(move || store.remove(&sha256)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "a component that nothing refers to stays until the next start");
        }
    }
}

fn refused(refused: Refused) -> PluginError {
    let message = refused.message;
    match refused.refusal {
        Some(Refusal::UnknownPlugin(_)) => PluginError::Unknown(message),
        Some(Refusal::PluginInUse { users, .. }) => PluginError::InUse {
            message,
            users: users.iter().map(ToString::to_string).collect(),
        },
        Some(Refusal::PluginVersionExists { .. }) => PluginError::VersionExists(message),
        Some(_) => PluginError::Invalid(message),
        None if refused.code == millstream_kafka::ErrorCode::InvalidConfig => PluginError::Invalid(message),
        None => PluginError::Storage(message),
    }
}

impl From<store::StoreError> for PluginError {
    fn from(error: store::StoreError) -> Self {
        Self::Storage(error.to_string())
    }
}
