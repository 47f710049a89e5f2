//! IncrementalAlterConfigs: single configurations change (KIP-339).

use crate::wire::Text;

codec! {
    /// Changes configurations and leaves the others as they are.
    pub struct IncrementalAlterConfigsRequest {
        /// The resources.
        resources: Vec<AlterConfigsResource>, ..;
        /// Only says whether the configurations could be changed.
        validate_only: bool, ..;
    }

    /// A resource whose configurations change.
    pub struct AlterConfigsResource {
        /// Number of its kind: 2 is a topic, 4 a broker.
        resource_type: i8, ..;
        /// Its name; that of a broker is its id.
        resource_name: Text, ..;
        /// The changes.
        configs: Vec<AlterableConfig>, ..;
    }

    /// A change.
    pub struct AlterableConfig {
        /// Name of the configuration.
        name: Text, ..;
        /// 0 sets the value, 1 deletes it, 2 appends to a list, 3 takes from a list.
        config_operation: i8, ..;
        /// The value, or what is appended or taken.
        value: Option<Text>, ..;
    }

    /// Which resources have changed.
    pub struct IncrementalAlterConfigsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every resource that was asked for.
        responses: Vec<AlterConfigsResourceResponse>, ..;
    }

    /// What became of one resource.
    pub struct AlterConfigsResourceResponse {
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// Number of its kind.
        resource_type: i8, ..;
        /// Its name.
        resource_name: Text, ..;
    }
}

request!(
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
    versions 0..=1, flexible 1..
);
