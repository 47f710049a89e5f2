"""Clusters of brokers as processes on loopback, and what can befall them.

Who wants to part brokers from each other runs in a network of its own (`own_network`): rules of nftables there touch
nobody else. Between brokers a packet is known by its two ports, because a broker dials from the port it listens on.
"""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import time

from harness import BINARY, Millstream, free_port, wait_until

RACKS = "abcdefgh"


class Node(Millstream):
    """A broker of a cluster."""

    def __init__(self, cluster, number, join=None, settings=(), data=None):
        super().__init__(data or cluster.place / f"data-{number}", settings)
        self.cluster, self.number, self.join = cluster, number, join
        self.bootstrap, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.peer_port = free_port()
        self.log = cluster.place / f"broker-{number}.log"
        self.environment = {}

    @property
    def peer(self):
        return f"127.0.0.1:{self.peer_port}"

    def command(self):
        cluster = self.cluster
        command = [BINARY, "broker", "--node-id", str(self.number), "--rack", RACKS[(self.number - 1) % 3]]
        command += ["--data-dir", str(self.data), "--kafka", self.bootstrap, "--http", self.http, "--ready-json"]
        command += ["--certs", str(cluster.certs / str(self.number)), "--cluster", self.peer]
        command += ["--join", self.join] if self.join else ["--voters", cluster.voters]
        for setting in self.settings:
            command += ["--set", setting]
        return command

    def launch(self):
        """Starts the process, and does not wait until it serves."""
        with open(self.log, "ab") as log:
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=log, env=environment)
        return self

    def wait_ready(self):
        line = self.process.stdout.readline()
        assert line, f"broker {self.number} did not start: {self.log.read_text()[-3000:]}"
        json.loads(line)
        return self

    def start(self):
        return self.launch().wait_ready()

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


class Cluster:
    """Some brokers with certificates of their own, all of them voters."""

    def __init__(self, place, brokers=3, settings=(), certified=5):
        self.place = pathlib.Path(place)
        self.place.mkdir(parents=True, exist_ok=True)
        self.certs = self.place / "certs"
        nodes = ",".join(str(number) for number in range(1, certified + 1))
        self.cli("cluster", "certs", "--out", str(self.certs), "--cluster", "test", "--nodes", nodes)
        self.settings = ["offsets.topic.num.partitions=4", *settings]
        self.nodes = {}
        for number in range(1, brokers + 1):
            self.nodes[number] = Node(self, number, settings=self.settings)
        self.voters = ",".join(f"{node.number}@{node.peer}" for node in self.nodes.values())

    def start(self):
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_ready()
        return self

    def add(self, number, settings=None):
        """One more broker, that joins."""
        node = Node(self, number, join=self.any_up().peer, settings=settings or self.settings)
        self.nodes[number] = node
        return node.start()

    def any_up(self):
        return next(node for node in self.nodes.values() if node.is_up())

    @property
    def bootstrap(self):
        return ",".join(node.bootstrap for node in self.nodes.values())

    def cli(self, *args, check=True, timeout=60):
        """Runs a command of `millstream`; gives what it printed."""
        done = subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=timeout)
        if check:
            assert done.returncode == 0, f"{args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            return done.stdout
        return done

    def admin(self, *args, check=True, node=None):
        """A command that talks to the cluster; its output is JSON."""
        node = node or self.any_up()
        done = self.cli(*args, "--bootstrap", node.bootstrap, "--admin", f"http://{node.http}", "--output", "json", check=check)
        return json.loads(done) if check else done

    def partitions(self, topic):
        """What Metadata says of a topic's partitions: leader, replicas, ISR, by index."""
        from confluent_kafka.admin import AdminClient

        metadata = AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(topic, timeout=10)
        return metadata.topics[topic].partitions

    def leader(self, topic, partition=0):
        """The broker that leads a partition."""

        def find():
            number = self.partitions(topic)[partition].leader
            return self.nodes.get(number)

        return wait_until(find, 15, f"{topic}-{partition} has a leader")

    def wait_in_sync(self, topic, members=3, seconds=30):
        """Waits until every partition has so many replicas in sync."""
        wait_until(
            lambda: all(len(p.isrs) >= members and p.leader >= 0 for p in self.partitions(topic).values()),
            seconds,
            f"{topic} has {members} replicas in sync",
        )

    def stop(self):
        for node in self.nodes.values():
            if node.is_up():
                node.go_on()
                node.process.kill()
                node.process.wait()

    def check_logs(self):
        """No broker may have panicked."""
        for node in self.nodes.values():
            log = node.log.read_text() if node.log.exists() else ""
            assert "panicked" not in log, f"broker {node.number}: " + log[log.index("panicked") - 200 :][:3000]


class Cuts:
    """Cuts and losses between brokers, by rules of nftables in this network."""

    def __init__(self):
        run("nft", "add", "table", "inet", "chaos")
        run("nft", "add", "chain", "inet", "chaos", "out", "{ type filter hook output priority 0; }")

    def one_way(self, sender, receiver):
        """What `sender` says does not reach `receiver`."""
        self.rule("udp", "sport", str(sender.peer_port), "udp", "dport", str(receiver.peer_port), "drop")

    def both_ways(self, left, right):
        self.one_way(left, right)
        self.one_way(right, left)

    def lose(self, node, percent):
        """Some of what a broker sends to others is lost."""
        self.rule("udp", "sport", str(node.peer_port), "numgen", "random", "mod", "100", "lt", str(percent), "drop")

    def rule(self, *words):
        run("nft", "add", "rule", "inet", "chaos", "out", *words)

    def heal(self):
        run("nft", "flush", "chain", "inet", "chaos", "out")


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def own_network():
    """Moves this process, and all it starts, into a network and mounts of its own; false where that is not allowed.

    Only for a process with one thread: the others would stay where they are.
    """
    if os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        return False
    try:
        run("mount", "--make-rprivate", "/")
        run("ip", "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def can_cut():
    """Whether rules of nftables can be set in this network."""
    try:
        Cuts().heal()
        return True
    except (OSError, subprocess.CalledProcessError):
        return False


def mount_small(place, mib):
    """Mounts a file system of so many MiB; false where that is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(place)]
    return os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0


def soon(condition, seconds=10):
    """Whether something comes true within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
