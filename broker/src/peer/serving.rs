//! Which brokers the cluster counts on, for calls that are under way.

use std::collections::BTreeSet;
use std::future;

use millstream_core::ids::BrokerId;
use tokio::sync::watch;

use super::CallKind;

/// The brokers that the cluster counts on; nothing before somebody says so.
#[derive(Default)]
pub(super) struct Serving(watch::Sender<Option<BTreeSet<BrokerId>>>);

impl Serving {
    /// These are they from now on.
    pub(super) fn set(&self, brokers: BTreeSet<BrokerId>) {
        self.0.send_if_modified(|known| {
            let changes = known.as_ref() != Some(&brokers);
            if changes {
                *known = Some(brokers);
            }
            changes
        });
    }

    /// Resolves when a call to a broker is not worth waiting for any more.
    pub(super) async fn ends(&self, to: BrokerId, kind: CallKind) {
        let mut brokers = self.0.subscribe();
        let is_in =
            |brokers: &Option<BTreeSet<BrokerId>>| brokers.as_ref().is_some_and(|all| all.contains(&to));
        match kind {
            // The quorum's leader may be fenced, and one that is fenced is told so by its heartbeats.
            CallKind::Quorum | CallKind::Submit | CallKind::Heartbeat => future::pending().await,
            // One that does not serve may still give what it has, if it is there.
            CallKind::PluginBytes => drop(brokers.wait_for(is_in).await),
            CallKind::Produce | CallKind::Request | CallKind::Workers => {}
        }
        let out = brokers.wait_for(|brokers| brokers.is_some() && !is_in(brokers));
        out.await.expect("it is not dropped while it is borrowed");
    }
}
