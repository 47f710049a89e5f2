//! Calls and streams between brokers that trust each other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::ids::BrokerId;

use super::super::{CallKind, Class, PeerError, frame, link};
use super::{Authority, Running, WAIT, two_brokers, until};

#[tokio::test]
async fn two_brokers_call_each_other() {
    let (one, two) = two_brokers();
    assert_eq!(&*one.says(2, "hello").await.unwrap(), b"1: hello");
    assert_eq!(&*two.says(1, "hello").await.unwrap(), b"2: hello");
    let large = Bytes::from(vec![7; 5 << 20]);
    let answer = one
        .peers
        .call(BrokerId(2), CallKind::Produce, large.clone(), WAIT);
    assert_eq!(answer.await.unwrap(), large);
    let classes: Vec<_> = one.peers.stats().iter().map(|peer| peer.class).collect();
    assert_eq!(
        classes,
        [Class::Control, Class::Bulk],
        "what is large has a connection of its own"
    );
}

#[tokio::test]
async fn whoever_is_behind_an_address_says_who_it_is() {
    let (one, two) = two_brokers();
    let request = Bytes::from_static(b"who");
    let address = two.address();
    let calling = one
        .peers
        .call_address(&address, CallKind::Heartbeat, request, WAIT);
    let (identity, answer) = calling.await.unwrap();
    assert_eq!(&identity, two.peers.identity());
    assert_eq!(&*answer, b"1: who");
}

#[tokio::test]
async fn a_refusal_is_told_in_bounded_words() {
    let (one, _two) = two_brokers();
    match one.says(2, "refuse").await.unwrap_err() {
        PeerError::Refused { reason, .. } => {
            assert!(reason.starts_with("not today") && reason.len() <= 16 << 10);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_an_error_within_the_time() {
    let (one, _two) = two_brokers();
    let unknown = one.says(3, "hello").await.unwrap_err();
    assert!(matches!(unknown, PeerError::Unknown(BrokerId(3))), "{unknown}");
    // Somebody has the port and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    one.peers.set_address(BrokerId(3), Some(address), None);
    let (begin, wait) = (Instant::now(), Duration::from_millis(300));
    let calling = one
        .peers
        .call(BrokerId(3), CallKind::Heartbeat, Bytes::new(), wait);
    assert!(matches!(
        calling.await.unwrap_err(),
        PeerError::TimedOut { waited, .. } if waited == wait
    ));
    assert!(begin.elapsed() < wait * 10);
    assert!(one.says(2, "still here").await.is_ok());
}

#[tokio::test]
async fn an_answer_that_does_not_come_holds_nobody_up() {
    let (one, _two) = two_brokers();
    let wait = Duration::from_millis(200);
    let request = Bytes::from_static(b"wait");
    let calling = one.peers.call(BrokerId(2), CallKind::Heartbeat, request, wait);
    let (silent, other) = tokio::join!(calling, one.says(2, "hello"));
    assert!(matches!(silent, Err(PeerError::TimedOut { .. })), "{silent:?}");
    assert_eq!(&*other.unwrap(), b"1: hello");
}

#[tokio::test]
async fn a_broker_that_comes_back_is_dialled_again() {
    let authority = Authority::new();
    let one = Running::start(authority.node("prod", 1), 1);
    let two = Running::start(authority.node("prod", 2), 2);
    one.knows(&two);
    assert!(one.says(2, "hello").await.is_ok());
    two.peers.end().await;
    let again = Running::start(two.folder, 2);
    one.knows(&again);
    until("the broker is back", async || one.says(2, "hello").await.is_ok()).await;
}

#[tokio::test]
async fn a_broker_that_was_removed_is_not_known_any_more() {
    let (one, _two) = two_brokers();
    assert!(one.says(2, "hello").await.is_ok());
    one.peers.set_address(BrokerId(2), None, None);
    assert!(matches!(one.says(2, "hello").await, Err(PeerError::Unknown(_))));
    assert!(one.peers.stats().is_empty());
}

#[tokio::test]
async fn a_stream_of_replication_carries_bytes_both_ways() {
    let (one, _two) = two_brokers();
    let (mut send, mut recv) = one.peers.open_replication(BrokerId(2)).await.unwrap();
    // The kind of the stream is a byte of it.
    for expected in [4_u64, 7] {
        send.write_all(b"abc").await.unwrap();
        let mut length = [0; 8];
        recv.read_exact(&mut length).await.unwrap();
        assert_eq!(u64::from_be_bytes(length), expected);
    }
    let classes: Vec<_> = one.peers.stats().iter().map(|peer| peer.class).collect();
    assert_eq!(classes, [Class::Bulk]);
}

#[tokio::test]
async fn a_call_that_is_too_large_is_not_sent() {
    let (one, _two) = two_brokers();
    let large = Bytes::from(vec![0; (64 << 10) + 1]);
    let calling = one.peers.call(BrokerId(2), CallKind::Heartbeat, large, WAIT);
    assert!(matches!(calling.await, Err(PeerError::TooLarge { .. })));
    assert!(one.says(2, "hello").await.is_ok());
}

#[tokio::test]
async fn garbage_and_giant_frames_close_their_own_connection_only() {
    let (one, two) = two_brokers();
    let giant = [&[3][..], &u32::MAX.to_be_bytes()].concat();
    for bytes in [&giant[..], &[77], b"GET / HTTP/1.1"] {
        let certificates = one.peers.certificates();
        let endpoint = &one.peers.endpoint;
        let address = two.address();
        let dialling = link::connect(endpoint, &certificates, None, &address, Class::Control);
        let connection = dialling.await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let closed = tokio::time::timeout(WAIT, connection.closed()).await.unwrap();
        assert!(
            matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code == super::super::CLOSE_GARBAGE),
            "{closed}"
        );
        assert!(one.says(2, "hello").await.is_ok());
    }
}

#[tokio::test]
async fn half_a_call_is_none() {
    let (one, two) = two_brokers();
    let certificates = one.peers.certificates();
    let endpoint = &one.peers.endpoint;
    let address = two.address();
    let dialling = link::connect(endpoint, &certificates, None, &address, Class::Control);
    let connection = dialling.await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    // A call that is given up after its first bytes: its stream ends as that of a whole one does.
    let head = [&[3][..], &100_u32.to_be_bytes(), b"hello"].concat();
    send.write_all(&head).await.unwrap();
    drop(send);
    assert!(frame::what(&mut recv).await.is_err(), "nobody answers it");
    assert!(connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_grow_as_far_as_the_system_takes_ten_of_them_at_once() {
    let (one, _two) = two_brokers();
    let block = Bytes::from(vec![0; 1 << 20]);
    let sent = Instant::now();
    let path = loop {
        let calling = one
            .peers
            .call(BrokerId(2), CallKind::Produce, block.clone(), WAIT);
        calling.await.unwrap();
        let links = one.peers.links.read().unwrap();
        let path = links[&(BrokerId(2), Class::Bulk)].open().unwrap().stats().path;
        if path.current_mtu > 6000 || sent.elapsed() > WAIT {
            break path;
        }
    };
    assert!(path.current_mtu > 6000, "{path:?}");
    let calling = one
        .peers
        .call(BrokerId(2), CallKind::Produce, vec![0; 32 << 20].into(), WAIT);
    calling.await.unwrap();
    let links = one.peers.links.read().unwrap();
    let path = links[&(BrokerId(2), Class::Bulk)].open().unwrap().stats().path;
    assert_eq!(path.black_holes_detected, 0, "{path:?}");
}

#[tokio::test]
async fn a_call_to_a_silent_broker_ends_when_the_cluster_does_not_count_on_it() {
    let (one, two) = two_brokers();
    let (me, other) = (BrokerId(1), BrokerId(2));
    let silent = Bytes::from_static(b"wait");
    one.peers.set_serving(BTreeSet::from([me, other]));
    for kind in [
        CallKind::Produce,
        CallKind::Request,
        CallKind::Workers,
        CallKind::PluginBytes,
    ] {
        let calling = one.peers.call(other, kind, silent.clone(), WAIT);
        let fencing = async {
            // The call is under way: the connection that it needs is there.
            until("the call is under way", async || !one.peers.stats().is_empty()).await;
            one.peers.set_serving(BTreeSet::from([me]));
            Instant::now()
        };
        let (answer, fenced) = tokio::join!(async { (calling.await, Instant::now()) }, fencing);
        let (answer, ended) = answer;
        let error = answer.unwrap_err();
        assert!(matches!(error, PeerError::OutOfService(_)), "{kind:?}: {error}");
        assert!(ended - fenced < WAIT / 4, "{kind:?}");
        one.peers.set_serving(BTreeSet::from([me, other]));
    }
    // What the cluster is run by goes on, and so does what a broker may have that does not serve.
    one.peers.set_serving(BTreeSet::from([me]));
    assert_eq!(&*one.says(2, "hello").await.unwrap(), b"1: hello");
    let bytes = one
        .peers
        .call(other, CallKind::PluginBytes, Bytes::from_static(b"x"), WAIT);
    assert_eq!(&*bytes.await.unwrap(), b"x");
    let produce = one.peers.call(other, CallKind::Produce, silent, WAIT).await;
    assert!(matches!(produce, Err(PeerError::OutOfService(_))));
    drop(two);
}
