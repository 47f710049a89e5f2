//! Plugins that do as little as possible, to measure what the boundary costs.

#![cfg_attr(
    not(all(feature = "filter", feature = "partitioner", feature = "transform")),
    allow(dead_code)
)]

mod work;

#[cfg(feature = "filter")]
mod filter {
    use millstream_plugin::{Filter, Record};

    struct Keep;

    #[millstream_plugin::filter]
    impl Filter for Keep {
        fn configure(_: &[u8]) -> Result<Self, String> {
            Ok(Self)
        }

        fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
            Ok(super::work::keep(record.value().unwrap_or_default()))
        }
    }
}

#[cfg(feature = "partitioner")]
mod partitioner {
    use millstream_plugin::{Partitioner, Record};

    struct Route;

    #[millstream_plugin::partitioner]
    impl Partitioner for Route {
        fn configure(_: &[u8]) -> Result<Self, String> {
            Ok(Self)
        }

        fn partition(&mut self, record: &Record<'_>, partitions: u32) -> Result<u32, String> {
            Ok(super::work::route(record.value().unwrap_or_default(), partitions))
        }
    }
}

#[cfg(feature = "transform")]
mod transform {
    use millstream_plugin::{Output, Record, Transform};

    struct Rewrite;

    #[millstream_plugin::transform]
    impl Transform for Rewrite {
        fn configure(_: &[u8]) -> Result<Self, String> {
            Ok(Self)
        }

        fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
            output.value_from(|out| super::work::rewrite(record.value().unwrap_or_default(), out));
            Ok(())
        }
    }
}
