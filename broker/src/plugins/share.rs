//! The bytes of plugins on all brokers.
//!
//! Who takes a component in gives it to all brokers that serve before the image names it, so that each can run it as soon
//! as it is attached. A broker that was away then asks the others when it needs the bytes.
//!
//! A message is one byte for what is wanted, the SHA-256 of the component in 64 hexadecimal digits, and, where it is given
//! and not asked for, the component.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::cluster::Image;
use millstream_core::ids::BrokerId;
use tokio::runtime::Handle;

use super::{PluginError, Plugins, store};
use crate::context::Context;
use crate::peer::{CallKind, Peers};

/// Where bytes come from that this broker lacks: gives those of a SHA-256, if anybody has them. Blocks.
pub struct Elsewhere(Box<Fetch>);

type Fetch = dyn Fn(&str) -> Option<Bytes> + Send + Sync;

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl Elsewhere {
    /// Bytes that `fetch` gives. It may block, and is called on threads that may.
    pub fn new(fetch: impl Fn(&str) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self(Box::new(fetch))
    }

    /// Asks the other brokers, one after the other. `image` says which there are.
    pub fn peers(
        me: BrokerId,
        peers: Arc<Peers>,
        runtime: Handle,
        image: impl Fn() -> Arc<Image> + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |sha256| {
            let image = image();
            let others = image.brokers().values().filter(|broker| broker.id != me);
            // Those that serve first: the others may still be there.
            let mut others: Vec<_> = others.map(|broker| (broker.fenced, broker.id)).collect();
            others.sort_unstable();
            others.into_iter().find_map(|(_, id)| {
                let asked = peers.call(id, CallKind::PluginBytes, ask(sha256), ASK_WAIT);
                runtime
                    .block_on(asked)
                    .ok()
                    .filter(|bytes| store::hash(bytes) == sha256)
            })
        })
    }
}

impl Plugins {
    /// Says where bytes come from that this broker lacks. Said once, at the start.
    pub fn look_elsewhere(&self, elsewhere: Elsewhere) {
        if self.elsewhere.set(elsewhere).is_err() {
            tracing::debug!("where plugins come from was said before");
        }
    }

    /// The bytes of a component: this broker's own, or another's if it has none or they are damaged. Blocks.
    pub(super) fn bytes(&self, sha256: &str) -> Result<Bytes, String> {
        let missing = match self.store.read(sha256) {
            Ok(bytes) => return Ok(bytes.into()),
            Err(missing) => missing,
        };
        let Some(elsewhere) = self.elsewhere.get() else {
            return Err(missing.to_string());
        };
        let found = (elsewhere.0)(sha256).filter(|bytes| store::hash(bytes) == sha256);
        let bytes = found.ok_or_else(|| format!("{missing}; no other broker has it"))?;
        if let Err(error) = self.store.write(sha256, &bytes) {
            tracing::warn!(%error, "a component that another broker gave runs, and is not kept");
        }
        Ok(bytes)
    }

    /// Gives a component to all other brokers that serve. One that does not answer is waited for, until it is fenced.
    pub(super) async fn give(
        &self,
        context: &Arc<Context>,
        sha256: &str,
        component: &Bytes,
    ) -> Result<(), PluginError> {
        let Some(peers) = &context.peers else {
            return Ok(());
        };
        let message = Bytes::from([&[GIVE], sha256.as_bytes(), &component[..]].concat());
        let me = BrokerId(context.settings.node_id);
        let image = context.controller.image();
        let others = image
            .brokers()
            .values()
            .filter(|broker| broker.id != me && !broker.fenced);
        let mut giving = tokio::task::JoinSet::new();
        for id in others.map(|broker| broker.id) {
            let (context, peers, message) = (context.clone(), peers.clone(), message.clone());
            giving.spawn(async move { give_to(&context, &peers, id, &message).await });
        }
        while let Some(given) = giving.join_next().await {
            given
                .map_err(|error| error.to_string())
                .and_then(|given| given)
                .map_err(PluginError::Storage)?;
        }
        Ok(())
    }
}

async fn give_to(context: &Context, peers: &Peers, id: BrokerId, message: &Bytes) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + GIVE_WAIT_MAX;
    loop {
        let called = peers.call(id, CallKind::PluginBytes, message.clone(), ASK_WAIT);
        let Err(error) = called.await else {
            return Ok(());
        };
        let image = context.controller.image();
        if image.brokers().get(&id).is_none_or(|broker| broker.fenced) {
            // It asks for what it lacks when it is back.
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!("broker {id} does not take the component: {error}"));
        }
        tokio::time::sleep(GIVE_AGAIN).await;
    }
}

/// Takes a component from another broker, or gives it one.
///
/// # Errors
/// The message cannot be read; the component is none, or is not here.
pub async fn serve(context: &Arc<Context>, request: Bytes) -> Result<Bytes, String> {
    let Request { sha256, given } = Request::decode(&request)?;
    let plugins = context.plugins.clone();
    let _storing = match given {
        Some(_) => Some(plugins.storing.lock().await),
        None => None,
    };
    let work = {
        let plugins = plugins.clone();
        move || match given {
            None => {
                let read = plugins.store.read(&sha256);
                read.map(Bytes::from).map_err(|error| error.to_string())
            }
            Some(component) if store::hash(&component) != sha256 => {
                Err("the component has another SHA-256 than the message says".to_owned())
            }
            Some(component) => {
                // Compiled now, so that the first batch does not wait for it.
                let kept = plugins.keep(&component).map_err(|error| error.to_string());
                kept.map(|_| Bytes::new())
            }
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    sha256: String,
    given: Option<Bytes>,
}

impl Request {
    fn decode(message: &Bytes) -> Result<Self, String> {
        let sha256 = message
            .get(1..=HASH_DIGITS)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|text| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .ok_or("the message names no SHA-256")?;
        let rest = message.slice(HASH_DIGITS + 1..);
        let given = match message.first() {
            Some(&ASK) if rest.is_empty() => None,
            Some(&GIVE) => Some(rest),
            _ => return Err("the message neither asks for a component nor gives one".to_owned()),
        };
        Ok(Self {
            sha256: sha256.to_owned(),
            given,
        })
    }
}

fn ask(sha256: &str) -> Bytes {
    [&[ASK], sha256.as_bytes()].concat().into()
}

const ASK: u8 = 0;
const GIVE: u8 = 1;
const HASH_DIGITS: usize = 64;
/// How long one broker may take for a component: it compiles what it is given.
const ASK_WAIT: Duration = Duration::from_secs(60);
/// How long a broker is tried that serves, but does not answer.
const GIVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long until it is tried again.
const GIVE_AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn messages_name_a_hash_and_nothing_else_names_a_file() {
        let sha256 = store::hash(b"c");
        let asked = Request::decode(&ask(&sha256)).unwrap();
        assert_eq!((asked.sha256, asked.given), (sha256.clone(), None));
        let given = Request::decode(&[&[GIVE], sha256.as_bytes(), b"c"].concat().into()).unwrap();
        assert_eq!(given.given.as_deref(), Some(&b"c"[..]));
        for bad in [
            Vec::new(),
            vec![ASK],
            [&[ASK], sha256.as_bytes(), b"c"].concat(),
            [&[2], sha256.as_bytes()].concat(),
            [&[ASK], "../".repeat(22).as_bytes()].concat(),
            [&[ASK], sha256.to_uppercase().as_bytes()].concat(),
        ] {
            assert!(Request::decode(&bad.into()).is_err());
        }
    }

    #[test]
    fn what_is_missing_or_damaged_comes_from_others_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let plugins = Plugins::open(dir.path(), &Settings::default()).unwrap();
        let sha256 = store::hash(b"component");
        assert!(plugins.bytes(&sha256).is_err(), "there is nobody to ask");
        plugins.look_elsewhere(Elsewhere::new(|_| Some(Bytes::from_static(b"component"))));
        assert_eq!(plugins.bytes(&sha256).unwrap(), b"component"[..]);
        assert_eq!(plugins.store.read(&sha256).unwrap(), b"component");
        let other = store::hash(b"other");
        let error = plugins.bytes(&other).unwrap_err();
        assert!(error.contains("no other broker has it"), "{error}");
    }
}
