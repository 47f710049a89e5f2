//! Certificates that are refused, and what is said about them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use rustls::crypto::aws_lc_rs;

use super::super::certificates::Certificates;
use super::super::{CallKind, PeerError, Peers};
use super::{Authority, Running, WAIT, any_port, until};

fn bind(folder: &Path, node: i32) -> Result<Peers, PeerError> {
    Peers::bind(any_port(), folder, BrokerId(node))
}

/// What a broker hears that calls another one by its address.
async fn told(caller: &Running, callee: &Running) -> String {
    let address = callee.address();
    let calling = caller
        .peers
        .call_address(&address, CallKind::Heartbeat, Bytes::new(), WAIT);
    calling.await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_broker_of_another_cluster_is_refused() {
    let authority = Authority::new();
    let ours = Running::start(authority.node("prod", 1), 1);
    let theirs = Running::start(authority.node("test", 2), 2);
    let told = told(&ours, &theirs).await;
    assert!(
        told.contains("certificate node-2.test.millstream.internal: it is of cluster 'test', not 'prod'"),
        "{told}"
    );
}

#[tokio::test]
async fn a_broker_of_a_foreign_authority_is_refused() {
    let ours = Running::start(Authority::new().node("prod", 1), 1);
    let theirs = Running::start(Authority::new().node("prod", 2), 2);
    let told = told(&ours, &theirs).await;
    assert!(
        told.contains("its authority is none of those in ca.pem"),
        "{told}"
    );
}

#[tokio::test]
async fn another_node_than_the_one_that_was_dialled_is_refused() {
    let authority = Authority::new();
    let one = Running::start(authority.node("prod", 1), 1);
    let three = Running::start(authority.node("prod", 3), 3);
    one.peers.set_address(BrokerId(2), Some(three.address()), None);
    let told = one.says(2, "hello").await.unwrap_err().to_string();
    assert!(told.contains("it is of node 3, not 2"), "{told}");
}

#[tokio::test]
async fn a_certificate_that_expired_is_refused_by_both_sides_and_by_its_own_broker() {
    let authority = Authority::new();
    let one = Running::start(authority.node("prod", 1), 1);
    let two = Running::start(authority.node("prod", 2), 2);
    one.knows(&two);
    two.knows(&one);
    // A broker that runs goes on with a certificate that expires: what it shows is put in its hands here.
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "node-2.prod.millstream.internal", 2020);
    let refused = bind(folder.path(), 2).unwrap_err().to_string();
    assert!(refused.ends_with("node.pem: it has expired"), "{refused}");
    let expired = Certificates::read(folder.path(), BrokerId(2)).unwrap();
    let server = super::super::tls::server(&expired, &two.peers.known).unwrap();
    two.peers.endpoint.set_server_config(Some(server));
    *two.peers.certificates.write().unwrap() = Arc::new(expired);
    for told in [one.says(2, "hello").await, two.says(1, "hello").await] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("it has expired"), "{told}");
    }
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let one = Running::start(Authority::new().node("prod", 1), 1);
    let certificates = one.peers.certificates();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(certificates.authorities.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"millstream/1".to_vec()];
    let quic = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let address = one.peers.local_addr();
    let name = one.peers.identity().dns_name();
    let connecting = endpoint.connect_with(quinn::ClientConfig::new(Arc::new(quic)), address, &name);
    // The caller learns of it after its part of the handshake.
    let closed = match connecting.unwrap().await {
        Ok(connection) => tokio::time::timeout(WAIT, connection.closed()).await.unwrap(),
        Err(error) => error,
    };
    assert!(
        closed.to_string().contains("peer sent no certificates"),
        "{closed}"
    );
}

#[tokio::test]
async fn a_start_says_which_file_is_wrong() {
    let authority = Authority::new();
    let folder = authority.node("prod", 1);
    let told = |node| bind(folder.path(), node).unwrap_err().to_string();
    assert!(
        told(2).ends_with("node.pem is the certificate of node 1, but this broker's node id is 2"),
        "{}",
        told(2)
    );
    std::fs::write(folder.path().join("node.key"), "no key").unwrap();
    assert!(told(1).contains("node.key: "), "{}", told(1));
    let other = authority.node("prod", 1);
    std::fs::copy(other.path().join("node.key"), folder.path().join("node.key")).unwrap();
    assert!(told(1).contains("cannot be used: "), "{}", told(1));
    std::fs::write(folder.path().join("ca.pem"), Authority::new().pem).unwrap();
    assert!(
        told(1).ends_with("node.pem: its authority is none of those in ca.pem"),
        "{}",
        told(1)
    );
    std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
    assert!(told(1).contains("ca.pem: "), "{}", told(1));
    authority.write(folder.path(), "www.example.com", 4000);
    assert!(told(1).contains("names no node of a cluster"), "{}", told(1));
}

#[tokio::test]
async fn certificates_that_change_are_used_without_a_restart() {
    let authority = Authority::new();
    let one = Running::start(authority.node("prod", 1), 1);
    let two = Running::start(authority.node("prod", 2), 2);
    one.knows(&two);
    let before = two.peers.certificates().fingerprint();
    authority.write(two.folder.path(), "node-2.prod.millstream.internal", 4001);
    until("the new certificate is in use", async || {
        two.peers.certificates().fingerprint() != before
    })
    .await;
    assert!(one.says(2, "hello").await.is_ok());
    // One that is of no use is not used.
    let good = two.peers.certificates().fingerprint();
    Authority::new().write(two.folder.path(), "node-3.prod.millstream.internal", 4001);
    let mut looks = 0;
    until("the files were looked at", async || {
        looks += 1;
        looks > 75
    })
    .await;
    assert_eq!(two.peers.certificates().fingerprint(), good);
    assert!(one.says(2, "hello").await.is_ok());
}
