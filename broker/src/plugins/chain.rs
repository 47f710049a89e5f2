//! Plugins of one topic in the order in which records pass them.

use millstream_core::config::{Attachment, Role};
use millstream_core::ids::TopicName;

/// A plugin attached to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// The topic or view that attaches it.
    pub topic: TopicName,
    /// As what.
    pub role: Role,
    /// Where in the list.
    pub place: usize,
    /// The plugin and how it is run.
    pub attachment: Attachment,
}
