//! AlterConfigs: the configurations of a resource are replaced as a whole (KIP-133).

use crate::wire::Text;

codec! {
    /// Replaces configurations: what is not named goes back to its default.
    pub struct AlterConfigsRequest {
        /// The resources.
        resources: Vec<AlterConfigsResource>, ..;
        /// Only says whether the configurations could be changed.
        validate_only: bool, ..;
    }

    /// A resource whose configurations are replaced.
    pub struct AlterConfigsResource {
        /// Number of its kind: 2 is a topic, 4 a broker.
        resource_type: i8, ..;
        /// Its name; that of a broker is its id.
        resource_name: Text, ..;
        /// All that are to differ from the defaults.
        configs: Vec<AlterableConfig>, ..;
    }

    /// A configuration.
    pub struct AlterableConfig {
        /// Its name.
        name: Text, ..;
        /// Its value.
        value: Option<Text>, ..;
    }

    /// Which resources have changed.
    pub struct AlterConfigsResponse {
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

request!(AlterConfigs: AlterConfigsRequest => AlterConfigsResponse, versions 0..=2, flexible 2..);
