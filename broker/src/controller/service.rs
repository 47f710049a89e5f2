//! What other brokers ask of this one, brought to its owner.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use millstream_core::ids::BrokerId;

use super::cluster::Member;
use super::messages::{decode, encode};
use crate::context::Context;
use crate::handlers::among;
use crate::peer::{CallKind, Service};
use crate::plugins;
use crate::workers;

/// Serves the other brokers.
pub struct Services {
    member: Arc<Member>,
    context: OnceLock<Weak<Context>>,
}

impl Services {
    /// Serves the quorum; the rest once there is a context.
    pub fn new(member: Arc<Member>) -> Arc<Self> {
        Arc::new(Self {
            member,
            context: OnceLock::new(),
        })
    }

    /// From now on everything is served.
    pub fn complete(&self, context: &Arc<Context>) {
        // There is one context in the life of a broker.
        let _ = self.context.set(Arc::downgrade(context));
    }

    fn context(&self) -> Result<Arc<Context>, String> {
        let context = self.context.get().and_then(Weak::upgrade);
        context.ok_or_else(|| "the broker is starting, or ending".to_owned())
    }

    async fn answer(&self, from: BrokerId, kind: CallKind, request: Bytes) -> Result<Bytes, String> {
        let member = &self.member;
        match kind {
            CallKind::Quorum => {
                member.is_in().await?;
                let answer = member.quorum.handle(&request).await;
                answer.map(Bytes::from).map_err(|error| error.to_string())
            }
            CallKind::Submit => Ok(encode(&member.answer(from, decode(&request)?).await)),
            CallKind::Heartbeat => Ok(encode(&member.hear(from, decode(&request)?))),
            CallKind::Produce => plugins::remote::serve(&self.context()?, request).await,
            CallKind::Request => among::serve(&self.context()?, request).await,
            CallKind::PluginBytes => plugins::share::serve(&self.context()?, request).await,
            CallKind::Workers => workers::report::serve(&self.context()?, &request),
        }
    }
}

impl Service for Services {
    fn call(
        self: Arc<Self>,
        from: BrokerId,
        kind: CallKind,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> {
        Box::pin(async move { self.answer(from, kind, request).await })
    }

    fn replication(
        self: Arc<Self>,
        from: BrokerId,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            match self.context() {
                Ok(context) => context.replication.clone().serve(from, send, recv).await,
                Err(reason) => tracing::debug!(follower = from.0, reason, "cannot be followed yet"),
            }
        })
    }
}
