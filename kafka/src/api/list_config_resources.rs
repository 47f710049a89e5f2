//! ListConfigResources: what has configurations (KIP-1142). Version 0 asks for subscriptions of client metrics only (KIP-714).

use crate::wire::Text;

codec! {
    /// Asks for what has configurations.
    pub struct ListConfigResourcesRequest {
        /// Types of what is asked for; none means all.
        resource_types: Vec<i8>, 1..;
    }

    /// What has configurations.
    pub struct ListConfigResourcesResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error, or 0.
        error_code: i16, ..;
        /// What there is.
        config_resources: Vec<ConfigResource>, ..;
    }

    /// Something that has a configuration.
    pub struct ConfigResource {
        /// Its name.
        resource_name: Text, ..;
        /// What it is; 16 is a subscription of client metrics.
        resource_type: i8 = 16, 1..;
    }
}

request!(ListConfigResources: ListConfigResourcesRequest => ListConfigResourcesResponse, versions 0..=1, flexible 0..);
