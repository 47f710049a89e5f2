"""What nobody should send, and what machines do: the broker answers, or hangs up, and goes on serving."""

import importlib
import random
import socket
import struct
import subprocess

import pytest
from confluent_kafka.admin import AdminClient

import harness
from wire import MODULES, Connection


def serves(broker):
    return AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).brokers


def send(broker, data):
    """Sends bytes; gives what comes back until the broker hangs up or two seconds are over."""
    with socket.create_connection(broker.address, timeout=2) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received
        except (ConnectionError, TimeoutError):
            return None


def frame(key, version, body=b"", correlation=7, client=b"\x00\x01t"):
    payload = struct.pack(">hhi", key, version, correlation) + client + body
    return struct.pack(">i", len(payload)) + payload


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff" + b"x" * 100,
        b"\x00\x00\x00\x10short",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        frame(9999, 0),
        frame(-1, 0),
        frame(0, 99, b"\x00" * 20),
        frame(3, 9, b"\xff" * 50),
        frame(3, 1, b"\x7f\xff\xff\xff"),
        frame(1, 12, b"\x00" * 12),
        frame(0, 9, b"\xfe" * 300),
    ],
    ids=lambda data: data[:10].hex(),
)
def test_frames_that_make_no_sense(broker, data):
    send(broker, data)
    assert serves(broker)


def test_random_frames(broker):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(400):
        body = chance.randbytes(chance.choice([0, 1, 5, 20, 200, 2000]))
        keys = [*range(0, 4), *range(8, 17), 18, 19, 20, 21, 22, 23, 32, 33, 35, 37, 42, 43, 44, 47, 60, 75]
        payload = frame(chance.choice(keys), chance.randrange(0, 15), body, client=chance.choice([b"\xff\xff", b"\xff\xff\x00"]))
        with socket.create_connection(broker.address, timeout=2) as connection:
            try:
                connection.sendall(payload)
            except ConnectionError:
                pass
    assert serves(broker)


def offered(broker):
    """Every request class and version that the broker offers and our encoder knows."""
    connection = Connection(broker.address)
    ranges = {key["api_key"]: (key["min_version"], key["max_version"]) for key in connection.call("ApiVersions", 0)["api_keys"]}
    connection.close()
    for module in MODULES:
        for name, kind in vars(importlib.import_module(f"kafka.protocol.{module}")).items():
            if name.endswith("Request") and kind.json["apiKey"] in ranges:
                lowest, highest = ranges[kind.json["apiKey"]]
                for version in range(max(lowest, kind.min_version), min(highest, kind.max_version) + 1):
                    yield kind, version


def test_requests_with_damage(broker):
    """Requests of every kind and version, whole but for some bytes: each is answered, or the broker hangs up."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, kinds = random.Random(seed), set()
    for kind, version in offered(broker):
        kinds.add(kind)
        made = kind()
        made.API_VERSION = version
        made.with_header(1, "damage")
        try:
            whole = bytes(made.encode(header=True, framed=True))
        except Exception:  # noqa: BLE001 - some have no defaults for what they must have
            continue
        for _ in range(8):
            data = bytearray(whole)
            for _ in range(chance.choice([0, 1, 2, 8])):
                data[chance.randrange(4, len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
            if chance.random() < 0.3:
                data += chance.randbytes(chance.randrange(40))
            data[:4] = struct.pack(">i", len(data) - 4)
            with socket.create_connection(broker.address, timeout=2) as connection:
                try:
                    connection.sendall(data)
                except ConnectionError:
                    pass
    assert len(kinds) > 20
    assert serves(broker)


def test_an_unknown_version_of_api_versions_is_told_the_right_ones(broker):
    answer = send(broker, frame(18, 99, b"\x00"))
    _, correlation, error, count = struct.unpack(">iihi", answer[:14])
    assert (correlation, error) == (7, 35) and count >= 1


def test_responses_come_in_order(broker):
    requests = b"".join(frame(18, 0, correlation=n) for n in range(50))
    answer, correlations = send(broker, requests), []
    while answer:
        (size, correlation), answer = struct.unpack(">ii", answer[:8]), answer
        correlations.append(correlation)
        answer = answer[4 + size :]
    assert correlations == list(range(50))


def test_a_second_broker_on_the_same_data_is_refused(own_broker):
    if own_broker.name == "kafka":
        pytest.skip("about our command line")
    command = [harness.BINARY, "broker", "--data-dir", str(own_broker.data), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert second.returncode != 0
    assert len([line for line in second.stderr.splitlines() if line.startswith("error:")]) == 1, second.stderr
    assert serves(own_broker)


def test_unknown_settings_name_the_nearest(target, tmp_path):
    if target.name == "kafka":
        pytest.skip("about our command line")
    command = [harness.BINARY, "broker", "--data-dir", str(tmp_path / "data"), "--set", "num.partitons=3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "num.partitions" in done.stderr
