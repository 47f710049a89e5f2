//! DeleteTopics: topics go, by name or by id (KIP-516).

use uuid::Uuid;

use crate::wire::Text;

codec! {
    /// Deletes topics.
    pub struct DeleteTopicsRequest {
        /// The topics, by name or by id.
        topics: Vec<DeleteTopicState>, 6..;
        /// The topics, by name.
        topic_names: Vec<Text>, ..=5;
        /// How long the broker may take.
        timeout_ms: i32, ..;
    }

    /// A topic to delete.
    pub struct DeleteTopicState {
        /// Its name, unless it is named by its id.
        name: Option<Text>, 6..;
        /// Its id; all zero if it is named by its name.
        topic_id: Uuid, 6..;
    }

    /// Which topics are gone.
    pub struct DeleteTopicsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every topic that was asked for.
        responses: Vec<DeletableTopicResult>, ..;
    }

    /// What became of one topic.
    pub struct DeletableTopicResult {
        /// Its name. Before version 6 it cannot be null.
        name: Option<Text> = Some(Text::default()), .., null 6..;
        /// Its id.
        topic_id: Uuid, 6..;
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, 5..;
    }
}

request!(DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse, versions 1..=6, flexible 4..);
