//! DescribeLogDirs: what a broker's directories hold, and how large it is (KIP-113, KIP-827).

use crate::wire::Text;

codec! {
    /// Asks for what is stored.
    pub struct DescribeLogDirsRequest {
        /// The topics; null means all.
        topics: Option<Vec<DescribableLogDirTopic>>, ..;
    }

    /// Partitions of one topic.
    pub struct DescribableLogDirTopic {
        /// Name of the topic.
        topic: Text, ..;
        /// Indexes of the partitions.
        partitions: Vec<i32>, ..;
    }

    /// What is stored.
    pub struct DescribeLogDirsResponse {
        /// How long the client was held back.
        throttle_time_ms: i32, ..;
        /// Error of the request as a whole, or 0.
        error_code: i16, 3..;
        /// The directories.
        results: Vec<DescribeLogDirsResult>, ..;
    }

    /// A directory.
    pub struct DescribeLogDirsResult {
        /// Error, or 0.
        error_code: i16, ..;
        /// Its absolute path.
        log_dir: Text, ..;
        /// Topics that it holds something of.
        topics: Vec<DescribeLogDirsTopic>, ..;
        /// Size of the volume that it is on, or -1.
        total_bytes: i64 = -1, 4..;
        /// What is left of that volume, or -1.
        usable_bytes: i64 = -1, 4..;
        /// Whether it takes no new partitions (KIP-1066).
        is_cordoned: bool, 5..;
    }

    /// Partitions of one topic.
    pub struct DescribeLogDirsTopic {
        /// Name of the topic.
        name: Text, ..;
        /// The partitions that are there.
        partitions: Vec<DescribeLogDirsPartition>, ..;
    }

    /// A partition that is there.
    pub struct DescribeLogDirsPartition {
        /// Index of the partition.
        partition_index: i32, ..;
        /// Size of its segments in bytes.
        partition_size: i64, ..;
        /// By how much it lags behind the partition's high watermark.
        offset_lag: i64, ..;
        /// Whether it is being moved here and not used yet.
        is_future_key: bool, ..;
    }
}

request!(DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse, versions 1..=5, flexible 2..);
