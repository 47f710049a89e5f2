//! The admin HTTP interface, as a client.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;

/// Calls to one broker's admin interface.
#[derive(Debug)]
pub struct AdminHttp {
    agent: ureq::Agent,
    base: String,
}

/// What the interface answers when it refuses.
#[derive(Debug, Deserialize)]
struct Refusal {
    message: String,
}

impl AdminHttp {
    /// Calls to `base`, such as `http://127.0.0.1:9644`.
    pub fn new(base: &str) -> Self {
        Self::within(base, TIMEOUT)
    }

    /// As [`AdminHttp::new`], with a time after which an answer is not waited for.
    pub fn within(base: &str, wait: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(wait))
            .build();
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") {
            base.to_owned()
        } else {
            format!("http://{base}")
        };
        Self {
            agent: config.into(),
            base,
        }
    }

    /// Asks for something.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.read(self.agent.get(self.url(path)).call())
    }

    /// Sends bytes, with parameters in the query.
    pub fn post(&self, path: &str, query: &[(&str, String)], body: &[u8]) -> anyhow::Result<Value> {
        // A body that is too large is refused before it is sent.
        let mut request = self.agent.post(self.url(path)).content_type("application/wasm");
        request = request.header("Expect", "100-continue");
        for (name, value) in query {
            request = request.query(*name, value);
        }
        self.read(request.send(body))
    }

    /// Sends JSON.
    pub fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.post(self.url(path)).content_type("application/json");
        self.read(request.send(body.to_string()))
    }

    /// Deletes something.
    pub fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.read(self.agent.delete(self.url(path)).call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut answer = answer.map_err(|error| {
            // The library says "io: " before what the system said.
            let reason = match &error {
                ureq::Error::Io(reason) => reason.to_string(),
                other => other.to_string(),
            };
            anyhow!(
                "cannot reach the admin interface at {}: {reason}; is the broker running? --admin names another",
                self.base
            )
        })?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .with_context(|| format!("answer of {}", self.base))?;
        if status.is_success() {
            if text.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_str(&text)
                .with_context(|| format!("{} did not answer with JSON", self.base));
        }
        match serde_json::from_str::<Refusal>(&text) {
            Ok(refusal) => bail!("{}", refusal.message),
            Err(_) => bail!("{} answered with status {status}", self.base),
        }
    }
}

/// A path segment with everything escaped that is not plain (RFC 3986, section 2.3).
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Longest wait for an answer: a push compiles the component.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
