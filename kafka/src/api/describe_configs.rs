//! DescribeConfigs: what topics and brokers are configured to do, and where that comes from (KIP-226, KIP-569).

use crate::wire::Text;

codec! {
    /// Asks for configurations.
    pub struct DescribeConfigsRequest {
        /// Topics, brokers and what else can be configured.
        resources: Vec<DescribeConfigsResource>, ..;
        /// Whether to tell all places that a value could come from.
        include_synonyms: bool, ..;
        /// Whether to tell what the configurations mean.
        include_documentation: bool, 3..;
    }

    /// A resource that is asked for.
    pub struct DescribeConfigsResource {
        /// Number of its kind: 2 is a topic, 4 a broker.
        resource_type: i8, ..;
        /// Its name; that of a broker is its id.
        resource_name: Text, ..;
        /// Configurations that are wanted; null means all.
        configuration_keys: Option<Vec<Text>>, ..;
    }

    /// The configurations.
    pub struct DescribeConfigsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// One answer for every resource that was asked for.
        results: Vec<DescribeConfigsResult>, ..;
    }

    /// The configurations of one resource.
    pub struct DescribeConfigsResult {
        /// Error, or 0.
        error_code: i16, ..;
        /// The error in words.
        error_message: Option<Text>, ..;
        /// Number of its kind.
        resource_type: i8, ..;
        /// Its name.
        resource_name: Text, ..;
        /// Its configurations.
        configs: Vec<DescribeConfigsResourceResult>, ..;
    }

    /// A configuration.
    pub struct DescribeConfigsResourceResult {
        /// Its name.
        name: Text, ..;
        /// Its value; null if there is none or it is a secret.
        value: Option<Text>, ..;
        /// Whether it cannot be changed.
        read_only: bool, ..;
        /// Number of where the value comes from.
        config_source: i8 = -1, ..;
        /// Whether it is a secret.
        is_sensitive: bool, ..;
        /// All places that the value could come from, the one that counts first.
        synonyms: Vec<DescribeConfigsSynonym>, ..;
        /// Number of its type.
        config_type: i8, 3..;
        /// What it means.
        documentation: Option<Text>, 3..;
    }

    /// A place that a value could come from.
    pub struct DescribeConfigsSynonym {
        /// Name of the configuration there.
        name: Text, ..;
        /// Its value there.
        value: Option<Text>, ..;
        /// Number of the place.
        source: i8, ..;
    }
}

request!(DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse, versions 1..=4, flexible 4..);
