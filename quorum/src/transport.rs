//! How requests reach other nodes.

use std::future::Future;
use std::io;

/// The way to other nodes; what arrives there is given to [`crate::Quorum::handle`].
///
/// Requests may be lost, repeated and overtaken: the quorum bears it. Whoever answers must be the node that was meant
/// (a broker's transport checks certificates), for an answer counts as that node's promise.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Sends one request to a node and waits for its answer. The quorum drops the call when it has waited long enough.
    ///
    /// # Errors
    /// The node could not be reached or did not answer. It may have got the request all the same.
    fn call(
        &self,
        target: u64,
        address: &str,
        request: Vec<u8>,
    ) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
}
