//! The contract in `wit/`, as typed calls.

#![allow(missing_docs)]

/// World `filter`, and the interface `host` that all worlds share.
pub mod filter {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "filter",
    });
}

/// World `partitioner`.
pub mod partitioner {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "partitioner",
        with: { "millstream:plugin/host": super::filter::millstream::plugin::host },
    });
}

/// World `transform`.
pub mod transform {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "transform",
        with: { "millstream:plugin/host": super::filter::millstream::plugin::host },
    });
}

pub use filter::millstream::plugin::host;
