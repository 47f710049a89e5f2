//! Which Host headers are answered: a web page elsewhere must not reach a broker through a name that it makes resolve
//! to a loopback address (DNS rebinding).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// The hosts that requests may be addressed to.
#[derive(Debug)]
pub struct AllowedHosts {
    bound: IpAddr,
    names: BTreeSet<String>,
}

impl AllowedHosts {
    /// Loopback, the address that is listened on, and further names, comma separated.
    pub fn new(bound: SocketAddr, further: &str) -> Self {
        let names = further
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty());
        Self {
            bound: bound.ip(),
            names: names.collect(),
        }
    }

    /// Whether a request may be addressed to `authority`, a host with or without a port.
    fn allows(&self, authority: &str) -> bool {
        let host = host_of(authority).trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host) {
            return true;
        }
        // An address is no name that could be made to resolve elsewhere; one that is listened on is ours.
        host.trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| {
                address.is_loopback() || address == self.bound || self.bound.is_unspecified()
            })
    }

    fn check(&self, request: &Request) -> Result<(), String> {
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => only(request.headers(), header::HOST)?.ok_or("a request needs a Host header")?,
        };
        if !self.allows(host) {
            return Err(format!(
                "'{host}' is no host of this broker; millstream.http.allowed.hosts adds one"
            ));
        }
        // Browsers say which page a request comes from: pages of other hosts have no business here.
        match only(request.headers(), header::ORIGIN)? {
            Some(origin)
                if !origin
                    .split_once("://")
                    .is_some_and(|(_, host)| self.allows(host)) =>
            {
                Err(format!("requests of pages from '{origin}' are not answered"))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses requests that are addressed to foreign hosts.
pub async fn refuse_foreign(
    State(hosts): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    match hosts.check(&request) {
        Ok(()) => next.run(request).await,
        Err(message) => ApiError::new(StatusCode::FORBIDDEN, "foreign_host", message).into_response(),
    }
}

/// The value of a header that may be there once.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, String> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(format!("there is more than one {name} header"));
    }
    first
        .map(|value| {
            value
                .to_str()
                .map_err(|_| format!("the {name} header is not text"))
        })
        .transpose()
}

/// The host of an authority, without its port; an IPv6 address keeps its brackets.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(bound: &str) -> AllowedHosts {
        AllowedHosts::new(bound.parse().unwrap(), "broker.example, Other.example")
    }

    #[test]
    fn loopback_and_named_hosts_are_allowed() {
        let hosts = hosts("127.0.0.1:9644");
        for host in [
            "localhost",
            "LOCALHOST:9644",
            "127.0.0.1:9644",
            "127.0.0.2",
            "[::1]:9644",
            "[::1]",
            "broker.example:80",
            "other.example.",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9644",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "localhost.evil.example",
            "[::2]",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
    }

    #[test]
    fn the_bound_address_is_allowed() {
        assert!(hosts("10.0.0.5:9644").allows("10.0.0.5:9644"));
        assert!(!hosts("10.0.0.5:9644").allows("10.0.0.6"));
        assert!(hosts("0.0.0.0:9644").allows("10.0.0.6:9644"));
        assert!(!hosts("0.0.0.0:9644").allows("evil.example"));
    }

    #[test]
    fn pages_of_other_hosts_are_refused() {
        let request = |headers: &[(&str, &str)]| {
            let request = headers
                .iter()
                .fold(Request::builder().uri("/healthz"), |r, (name, value)| {
                    r.header(*name, *value)
                });
            hosts("127.0.0.1:9644").check(&request.body(axum::body::Body::empty()).unwrap())
        };
        assert!(request(&[("host", "localhost")]).is_ok());
        assert!(request(&[("host", "localhost"), ("origin", "http://localhost:9644")]).is_ok());
        assert!(request(&[("host", "localhost"), ("origin", "http://evil.example")]).is_err());
        assert!(request(&[("host", "localhost"), ("origin", "null")]).is_err());
        assert!(request(&[("host", "localhost"), ("host", "evil.example")]).is_err());
        assert!(request(&[]).is_err());
    }
}
