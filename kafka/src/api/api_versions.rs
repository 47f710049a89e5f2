//! ApiVersions: which versions a broker offers (KIP-35, KIP-511, KIP-584).

use crate::wire::Text;

codec! {
    /// Asks for the versions, and says who asks.
    pub struct ApiVersionsRequest {
        /// Name of the client library.
        client_software_name: Text, 3..;
        /// Its version.
        client_software_version: Text, 3..;
    }

    /// The versions that a broker offers.
    pub struct ApiVersionsResponse {
        /// Error code; comes first in every version.
        error_code: i16, ..;
        /// The APIs.
        api_keys: Vec<ApiVersion>, ..;
        /// How long the client was throttled.
        throttle_time_ms: i32, 1..;
        /// Features that the broker can have.
        supported_features: Vec<SupportedFeatureKey>, 3.., tag 0;
        /// Epoch of the features in force; -1 if that is not known.
        finalized_features_epoch: i64 = -1, 3.., tag 1;
        /// Features in force in the whole cluster.
        finalized_features: Vec<FinalizedFeatureKey>, 3.., tag 2;
        /// Whether a controller can take over from ZooKeeper.
        zk_migration_ready: bool, 3.., tag 3;
    }

    /// An API that is offered.
    pub struct ApiVersion {
        /// Its number.
        api_key: i16, ..;
        /// Lowest version.
        min_version: i16, ..;
        /// Highest version.
        max_version: i16, ..;
    }

    /// A feature that the broker can have.
    pub struct SupportedFeatureKey {
        /// Its name.
        name: Text, 3..;
        /// Lowest level.
        min_version: i16, 3..;
        /// Highest level.
        max_version: i16, 3..;
    }

    /// A feature in force.
    pub struct FinalizedFeatureKey {
        /// Its name.
        name: Text, 3..;
        /// Highest level.
        max_version_level: i16, 3..;
        /// Lowest level.
        min_version_level: i16, 3..;
    }
}

request!(ApiVersions: ApiVersionsRequest => ApiVersionsResponse, versions 0..=4, flexible 3..);
