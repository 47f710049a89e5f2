"""What one client may take of the broker: connections, time, memory. The others are served all the while."""

import socket
import struct
import time
import urllib.request

import pytest
from batches import batch, record
from harness import wait_until
from talk import fill, make_topic
from wire import Connection, request


@pytest.fixture
def limited(target, tmp_path):
    """Starts a broker with these settings."""
    if target.name == "kafka":
        pytest.skip("about our bounds")
    brokers = []

    def start(*settings):
        brokers.append(target(tmp_path / "data", settings).start())
        return brokers[-1]

    yield start
    for broker in brokers:
        assert broker.process.poll() is None, "it died"
        broker.stop()


def versions(connection):
    return connection.call("ApiVersions", 0)["api_keys"]


def is_closed(connection, seconds=10):
    """Whether the other side hangs up in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(1 << 20):
            pass
        return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def resident_bytes(broker):
    status = open(f"/proc/{broker.process.pid}/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_more_connections_than_allowed_are_closed(limited):
    broker = limited("max.connections=5")
    connections = [Connection(broker.address) for _ in range(5)]
    assert all(versions(connection) for connection in connections)
    surplus = [socket.create_connection(broker.address) for _ in range(20)]
    assert all(is_closed(connection) for connection in surplus)
    assert all(versions(connection) for connection in connections), "those that are there stay"
    connections.pop().close()
    wait_until(lambda: versions(Connection(broker.address)), what="the place of one that went is free")


def test_many_connections_come_and_go(limited):
    broker = limited()
    before = resident_bytes(broker)
    connections = [socket.create_connection(broker.address) for _ in range(400)]
    for number, connection in enumerate(connections):
        connection.sendall(struct.pack(">i", 100) + b"x" * (number % 100))
    assert versions(Connection(broker.address))
    assert resident_bytes(broker) - before < 100 << 20
    for connection in connections:
        connection.close()
    metrics = lambda: "millstream_connections 0" in http_get(broker, "/metrics")  # noqa: E731
    wait_until(metrics, what="all connections are gone")


def http_get(broker, path):
    return urllib.request.urlopen(f"http://{broker.http}{path}", timeout=10).read().decode()


def test_idle_connections_are_closed_and_busy_ones_stay(limited):
    broker = limited("connections.max.idle.ms=1000")
    busy, idle, stuck = (Connection(broker.address) for _ in range(3))
    assert versions(idle)
    stuck.socket.sendall(struct.pack(">i", 1000) + b"half a frame")
    begun = time.monotonic()
    while time.monotonic() - begun < 2.5:
        assert versions(busy)
        time.sleep(0.1)
    assert is_closed(idle.socket, 1) and is_closed(stuck.socket, 1)
    assert versions(busy)


def test_frames_that_trickle_in_do_not_keep_memory_from_others(limited):
    """All the memory for requests is granted to one that never comes to its end."""
    broker = limited("queued.max.request.bytes=1048576", "connections.max.idle.ms=3000")
    make_topic(broker, "t")
    greedy = socket.create_connection(broker.address)
    greedy.sendall(struct.pack(">i", 1 << 20) + b"x" * 100)
    data = [dict(name="t", partition_data=[dict(index=0, records=batch(record(0, value=bytes(900_000))))])]
    values = dict(transactional_id=None, acks=-1, timeout_ms=5000, topic_data=data)
    answer = Connection(broker.address).call("Produce", 9, **values)
    assert answer["responses"][0]["partition_responses"][0]["error_code"] == 0
    assert is_closed(greedy)


def test_memory_for_requests_is_bounded(limited):
    broker = limited("queued.max.request.bytes=33554432", "connections.max.idle.ms=5000")
    before = resident_bytes(broker)
    size = 20 << 20
    connections = [socket.create_connection(broker.address) for _ in range(20)]
    for connection in connections:
        connection.setblocking(False)
    part, most = b"x" * (1 << 20), 0
    for _ in range(60):
        for connection in connections:
            try:
                connection.send(struct.pack(">i", size) + part)
            except (BlockingIOError, ConnectionError):
                pass
        most = max(most, resident_bytes(broker) - before)
    assert most < 120 << 20, "20 frames of 20 MiB would be 400"
    assert versions(Connection(broker.address)), "small requests need none of it"
    for connection in connections:
        connection.close()


def fetch_frame(topic, correlation):
    at = dict(partition=0, fetch_offset=0, partition_max_bytes=50 << 20)
    made = request(
        "Fetch", 12, replica_id=-1, max_wait_ms=0, min_bytes=0, max_bytes=50 << 20, isolation_level=0, session_id=0,
        session_epoch=-1, forgotten_topics_data=[], rack_id="", topics=[dict(topic=topic, partitions=[at])],
    )  # fmt: skip
    made.with_header(correlation, "slow")
    return bytes(made.encode(header=True, framed=True))


@pytest.mark.parametrize("kind", ["topic", "view"])
def test_those_who_do_not_read_are_cut_off(limited, kind):
    """Many large fetches, no answer of which is read: they take little memory, and the connection ends."""
    broker = limited("connections.max.idle.ms=3000", "millstream.view.cache.bytes=0")
    make_topic(broker, "t")
    fill(broker, "t", 400, 100_000)
    name = "t"
    if kind == "view":
        name = "v"
        make_topic(broker, name, millstream_view_source="t")
    before = resident_bytes(broker)
    slow = [socket.create_connection(broker.address) for _ in range(3)]
    for connection in slow:
        connection.sendall(b"".join(fetch_frame(name, n) for n in range(60)))
    most, deadline = 0, time.monotonic() + 2
    while time.monotonic() < deadline:
        most = max(most, resident_bytes(broker) - before)
        assert versions(Connection(broker.address))
        time.sleep(0.05)
    # A view's answers are in memory: one that is sent, one that waits, one that is computed, for each of the three.
    assert most < (600 << 20 if kind == "view" else 50 << 20), f"{most >> 20} MiB"
    time.sleep(2)
    # What the system had taken already can be read still; then it is over.
    received = 0
    for connection in slow:
        connection.settimeout(10)
        try:
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
        except ConnectionError:
            pass
    assert received < 3 * (100 << 20)
    assert resident_bytes(broker) - before < 400 << 20


def test_large_frames_are_refused_by_their_length(limited):
    broker = limited("socket.request.max.bytes=1000000")
    connection = socket.create_connection(broker.address)
    connection.sendall(struct.pack(">i", 1_000_001))
    assert is_closed(connection, 2)
    assert versions(Connection(broker.address))


def test_idle_connections_do_not_keep_others_from_the_admin_interface(limited):
    broker = limited("connections.max.idle.ms=1500")
    host, port = broker.http.split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(300)]
    for connection in idle[::2]:
        connection.sendall(b"POST /v1/plugins?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
    assert http_get(broker, "/healthz")
    assert all(is_closed(connection, 5) for connection in idle)
