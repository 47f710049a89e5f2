//! Views: topics that are computed when they are read.
//!
//! A view's batches have the offsets of the batches that they are computed from, holes included, so that consumers move
//! on also where nothing is left. What was computed is kept in a bounded [`cache`](super::cache).

use std::sync::Arc;

use millstream_core::cluster::{Image, Topic};
use millstream_core::config::{BrokerDefaults, ConfigError, Role};
use millstream_core::ids::TopicName;

use super::chain::Link;

/// What a view runs over the records of the topic that stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The view.
    pub name: TopicName,
    /// What it runs: first what the view nearest to the stored topic runs, last its own.
    pub(super) links: Vec<Link>,
}

impl View {
    /// What `topic` runs when it is read; none if it is no view.
    ///
    /// # Errors
    /// A broker default that is no value for a topic.
    pub fn of(image: &Image, topic: &Arc<Topic>, defaults: &BrokerDefaults) -> Result<Option<Self>, ConfigError> {
        let mut links = Vec::new();
        let mut at = topic;
        while let Some(source) = at.view_source() {
            let config = at.config(defaults)?;
            let own = config.view_plugins.into_iter().enumerate();
            let own: Vec<Link> = own.map(|(place, attachment)| Link::new(&at.name, Role::View, place, attachment)).collect();
            links.splice(0..0, own);
            match image.topic(source) {
                Some(source) => at = source,
                None => break,
            }
        }
        Ok(topic.is_view().then(|| Self { name: topic.name.clone(), links }))
    }
}
