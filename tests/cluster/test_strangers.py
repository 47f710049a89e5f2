"""Brokers that must not get in, and senders that are no brokers: each is told why, and the cluster goes on."""

import os
import random
import shutil
import socket
import subprocess
import time

import harness
import pytest
from brokers import Node, wait_until
from steps import brokers, make_topic, numbers, read, write


class Stranger(Node):
    """A broker that is not of the cluster."""

    def __init__(self, cluster, place, number, certs, **options):
        super().__init__(cluster, number, data=place / "stranger", settings=cluster.settings, **options)
        self.log, self.certs = place / "stranger.log", certs

    def command(self):
        command = super().command()
        command[command.index("--certs") + 1] = str(self.certs)
        return command

    def said(self):
        return self.log.read_text()


@pytest.fixture
def strange(three, tmp_path):
    """Starts a stranger, that is ended afterwards."""
    started = []

    def start(number, certs, environment=None, joins=True):
        stranger = Stranger(three, tmp_path, number, certs, join=three.nodes[1].peer if joins else None)
        stranger.environment = environment or {}
        started.append(stranger.launch())
        return stranger

    yield start
    for stranger in started:
        stranger.kill()


def ends_saying(stranger, *words):
    """It ends by itself, with one line that says what is wrong."""
    assert stranger.process.wait(20) == 1, stranger.said()
    errors = [line for line in stranger.said().splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and all(word in errors[0] for word in words), stranger.said()


def goes_on(cluster, name):
    """The cluster serves as before."""
    write(cluster.bootstrap, name, numbers(50, 50), seconds=10)
    assert read(cluster.bootstrap, name, 100) == numbers(100)
    assert {broker["id"]: broker["fenced"] for broker in brokers(cluster.nodes[1])} == {1: False, 2: False, 3: False}


@pytest.fixture
def topic(three, name):
    """A topic with some records."""
    make_topic(three, name)
    write(three.bootstrap, name, numbers(50))
    return name


def test_a_second_broker_with_an_id_is_told_so(three, strange, topic):
    ends_saying(strange(2, three.certs / "2"), "broker id 2 is in use", three.nodes[2].bootstrap, "--node-id")
    goes_on(three, topic)


def make_certs(cluster, out, *more, name="test"):
    cluster.cli("cluster", "certs", "--out", str(out), "--cluster", name, "--nodes", "4", *more)
    return out / "4"


def test_a_certificate_of_a_foreign_authority_is_refused(three, strange, topic, tmp_path):
    stranger = strange(4, make_certs(three, tmp_path / "foreign"))
    wait_until(lambda: "its authority is none of those in ca.pem" in stranger.said(), 20, "it is told why")
    goes_on(three, topic)


def test_a_certificate_of_another_cluster_is_refused(three, strange, topic, tmp_path):
    """The same authority signed it: the name is wrong."""
    stranger = strange(4, make_certs(three, tmp_path / "other", "--ca", str(three.certs), name="other"))
    wait_until(lambda: "it is of cluster 'test', not 'other'" in stranger.said(), 20, "it is told why")
    goes_on(three, topic)


def test_a_certificate_whose_authority_only_the_stranger_trusts_is_refused(three, strange, topic, tmp_path):
    """It takes ours for good, so that it is the cluster that has to refuse, and says so too."""
    certs = make_certs(three, tmp_path / "foreign")
    shutil.copy(three.certs / "ca.pem", tmp_path / "both.pem")
    with open(tmp_path / "both.pem", "ab") as file:
        file.write((certs / "ca.pem").read_bytes())
    shutil.copy(tmp_path / "both.pem", certs / "ca.pem")
    stranger = strange(4, certs)
    wait_until(lambda: "authority" in stranger.said(), 20, "it is told why")
    refusals = "certificate refused"
    wait_until(lambda: refusals in three.nodes[1].log.read_text(), 20, "the cluster tells whom it refused")
    goes_on(three, topic)


def test_a_broker_without_certificates_does_not_start(three, strange, topic, tmp_path):
    ends_saying(strange(4, tmp_path / "none"), str(tmp_path / "none" / "ca.pem"), "No such file")


def test_a_broker_with_the_certificate_of_another_node_does_not_start(three, strange, topic):
    ends_saying(strange(4, three.certs / "5"), "certificate of node 5", "node id is 4")


def test_a_broker_with_an_expired_certificate_does_not_start(three, strange, topic, tmp_path):
    library, source = tmp_path / "clock.so", harness.ROOT / "tests" / "chaos" / "clock.c"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a C compiler is needed to move a clock")
    (tmp_path / "clock").write_text(str(3 * 24 * 3600))
    certs = make_certs(three, tmp_path / "short", "--days", "1", "--ca", str(three.certs))
    later = {"LD_PRELOAD": str(library), "CLOCK_JUMP_FILE": str(tmp_path / "clock")}
    ends_saying(strange(4, certs, later), str(certs / "node.pem"), "it has expired")


def test_garbage_at_the_cluster_port_harms_nobody(three, topic):
    """Datagrams of any size and content, also such as begin like packets of QUIC."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(6000):
            size = chance.choice([0, 1, 20, 1200, 1452, 9000, 65_507])
            data = bytearray(chance.randbytes(size))
            if size >= 1200 and number % 2:
                # The first packet of a handshake of version 1, that makes the receiver think.
                data[:6] = bytes([0xC3, 0, 0, 0, 1, 8])
            sender.sendto(data, ("127.0.0.1", three.nodes[1 + number % 3].peer_port))
    goes_on(three, topic)
    for node in three.nodes.values():
        assert resident_mib(node) < 600


def resident_mib(node):
    pages = int(open(f"/proc/{node.process.pid}/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def test_voters_that_nobody_answers_say_whom_they_wait_for(own):
    """Some of three do not begin a cluster: they do not serve, say so, and begin when all are there."""
    cluster = own(brokers=3)
    first, second, third = cluster.nodes.values()
    for node in (first, second):
        node.launch()
        wait_until(lambda: "waits for other voters to say" in node.log.read_text(), 20, "it says what it waits for")
    assert first.is_up() and second.is_up()
    began = time.monotonic()
    third.launch()
    for node in cluster.nodes.values():
        node.wait_ready()
    assert time.monotonic() - began < 15
    make_topic(cluster, "orders", replicas=2)
