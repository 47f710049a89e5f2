"""Brokers as processes: ours, and Apache Kafka to compare with. Each has a data directory and ports of its own."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
BINARY = os.environ.get("MILLSTREAM_BINARY", str(TARGET / "release" / "millstream"))
JARS = os.environ.get("KAFKA_JARS", str(ROOT / ".tools" / "kafka"))

# For programs that run for a second: start fast rather than run fast.
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", f"{JARS}/*"]


def wait_until(condition, seconds=20, what="the condition"):
    """Waits for what `condition` gives to be true, and gives it. Exceptions count as not yet."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except Exception as error:  # noqa: BLE001 - whatever it is, the deadline decides
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s; last error: {last!r}")
        time.sleep(0.02)


GIVEN = set()


def free_port():
    """A port that nobody listens on, neither TCP nor UDP, and none that the kernel gives to those who do not ask for one:
    a broker that is down for a while finds it free again."""
    while True:
        port = random.randrange(15_000, 32_000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(type=kind) as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port


def java(*args, stdin=None, timeout=60):
    """Runs a Java program of Kafka's; gives its standard output."""
    done = subprocess.run([*JAVA, *args], input=stdin, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Millstream:
    """Our broker."""

    name = "millstream"

    def __init__(self, data, settings=()):
        self.data = pathlib.Path(data)
        self.settings = [*settings, "group.initial.rebalance.delay.ms=0"]
        self.process = None
        self.bootstrap = "127.0.0.1:0"
        self.http = "127.0.0.1:0"
        self.log = self.data.parent / f"{self.data.name}.log"

    def start(self):
        """Starts it; once it had ports, it comes back on the same."""
        command = [BINARY, "broker", "--data-dir", str(self.data), "--kafka", self.bootstrap, "--http", self.http, "--ready-json"]
        for setting in self.settings:
            command += ["--set", setting]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline()
        assert line, f"the broker did not start: {self.log.read_text()[-2000:]}"
        ready = json.loads(line)
        self.bootstrap, self.http = ready["kafka"], ready["http"]
        return self

    @property
    def address(self):
        host, port = self.bootstrap.split(":")
        return host, int(port)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """Asks it to end; gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)

    def segment_files(self):
        return sorted(self.data.rglob("*.log"))


class Kafka(Millstream):
    """Apache Kafka, one broker that is its own controller, with its defaults."""

    name = "kafka"

    def start(self):
        first = self.process is None
        if first:
            port, controller = free_port(), free_port()
            self.bootstrap = f"127.0.0.1:{port}"
            self.data.mkdir(parents=True)
            settings = {
                "process.roles": "broker,controller",
                "node.id": 1,
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
                "controller.listener.names": "CONTROLLER",
                "inter.broker.listener.name": "PLAINTEXT",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "log.dirs": self.data / "data",
                "offsets.topic.replication.factor": 1,
                "offsets.topic.num.partitions": 4,
                # Else assignments are made in the background, and a busy machine answers before there is one.
                "group.consumer.assignor.offload.enable": "false",
                "transaction.state.log.replication.factor": 1,
                "transaction.state.log.min.isr": 1,
                "share.coordinator.state.topic.replication.factor": 1,
            }
            lines = [f"{key}={value}" for key, value in settings.items()] + self.settings
            (self.data / "server.properties").write_text("\n".join(lines))
            java("kafka.tools.StorageTool", "format", "-t", "bWlsbHN0cmVhbS10ZXN0cw", "-c", str(self.data / "server.properties"))
        heap = ["-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["java", *heap, "-cp", f"{JARS}/*", "kafka.Kafka", str(self.data / "server.properties")],
                stdout=log,
                stderr=log,
            )
        wait_until(self.serves, 60, "Kafka serves")
        return self

    def serves(self):
        from kafka import KafkaAdminClient

        client = KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
        try:
            return client.describe_cluster()
        finally:
            client.close()


TARGETS = {kind.name: kind for kind in (Millstream, Kafka)}
