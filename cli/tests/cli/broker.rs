//! The broker as a process: how it starts, ends, and what its admin interface answers.

use std::process::Stdio;

use crate::support::{Broker, broker_command};

#[test]
fn a_broker_ends_cleanly_and_finds_everything_again() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "--partitions", "2"]);
    broker.run_with(&["produce", "t"], "one\n");
    let (directory, status) = broker.stop();
    assert!(status.success(), "{status}");
    let broker = Broker::start_in(directory);
    assert_eq!(broker.run(&["consume", "t", "--exit-at-end"]), "one\n");
    assert_eq!(broker.json(&["topic", "list"])[0]["partitions"], 2);
}

#[test]
fn two_brokers_do_not_share_a_directory() {
    let broker = Broker::start();
    let second = broker_command(broker.directory.path())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.lines().last().unwrap_or_default().starts_with("error: "),
        "{said}"
    );
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let directory = tempfile::tempdir().unwrap();
    let output = broker_command(directory.path())
        .args(["--set", "num.partition=3"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean 'num.partitions'?"));
}

#[test]
fn the_admin_interface_answers_friends_only() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    broker.run_with(&["produce", "t"], "one\n");
    assert_eq!(broker.http("GET", "/healthz", "localhost").0, 200);
    assert_eq!(broker.http("GET", "/readyz", "127.0.0.1:1234").0, 200);
    let (status, body) = broker.http("GET", "/healthz", "evil.example");
    assert_eq!(status, 403);
    assert!(body.contains("foreign_host"), "{body}");
    let (_, metrics) = broker.http("GET", "/metrics", "localhost");
    assert!(
        metrics.contains("millstream_log_end_offset{topic=\"t\",partition=\"0\"} 1"),
        "{metrics}"
    );
    let (_, description) = broker.http("GET", "/v1/openapi.json", "localhost");
    for path in [
        "/v1/plugins",
        "/v1/topics",
        "/v1/views",
        "/v1/groups",
        "/v1/cluster",
        "/metrics",
        "/healthz",
        "/readyz",
    ] {
        assert!(description.contains(&format!("\"{path}\"")), "{path}");
    }
    for path in [
        "/v1/plugins",
        "/v1/topics",
        "/v1/topics/t",
        "/v1/views",
        "/v1/groups",
        "/v1/cluster",
    ] {
        let (status, body) = broker.http("GET", path, "localhost");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<serde_json::Value>(body.trim())
            .unwrap_or_else(|error| panic!("{path}: {error} in {body}"));
    }
    for (method, path, expected) in [
        ("GET", "/v1/topics/nowhere", 404),
        ("GET", "/v1/groups/nobody", 404),
        ("GET", "/v1/plugins/none", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/topics", 405),
        ("DELETE", "/v1/plugins/none/0.1.0", 404),
        ("POST", "/v1/plugins", 400),
    ] {
        let (status, body) = broker.http(method, path, "localhost");
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(
            body.contains("\"error\"") && body.contains("\"message\""),
            "{method} {path}: {body}"
        );
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_by_the_admin_interface() {
    let broker = Broker::start();
    let push = "POST /v1/plugins?name=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let (status, body) = broker.http_raw(&format!("{push}Content-Length: 104857600\r\n\r\n"));
    assert_eq!(status, 413, "before any of it was sent");
    assert!(body.contains("millstream.plugin.max.bytes"), "{body}");
    let (status, body) = broker.http_raw(&format!("{push}Content-Length: 5\r\n\r\nhello"));
    assert_eq!(status, 400);
    assert!(body.contains("invalid_plugin"), "{body}");
    assert_eq!(broker.http_raw(&format!("{push}\r\n")).0, 400, "nothing at all");
    let query = push.replace("name=x", "name=x&nonsense=1");
    let (status, body) = broker.http_raw(&format!("{query}Content-Length: 5\r\n\r\nhello"));
    assert_eq!(status, 400);
    assert!(body.contains("nonsense"), "{body}");
    for (request, expected) in [
        ("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 403),
        (
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n",
            403,
        ),
        (
            "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            403,
        ),
        ("nonsense\r\n\r\n", 400),
        ("GET /\x01 HTTP/9.9\r\n\r\n", 400),
    ] {
        assert_eq!(broker.http_raw(request).0, expected, "{request}");
    }
    for (method, path) in [
        ("PUT", "/v1/plugins"),
        ("DELETE", "/v1/plugins"),
        ("POST", "/v1/topics"),
        ("POST", "/metrics"),
        ("PATCH", "/v1/plugins/x/0.1.0"),
        ("POST", "/healthz"),
    ] {
        let (status, body) = broker.http(method, path, "localhost");
        assert_eq!(status, 405, "{method} {path}");
        assert!(body.contains("method_not_allowed"), "{body}");
    }
    assert_eq!(
        broker
            .http("GET", &format!("/{}", "x".repeat(200_000)), "localhost")
            .0
            / 100,
        4
    );
    assert_eq!(broker.http("GET", "/readyz", "localhost").0, 200);
}
