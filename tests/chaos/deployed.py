"""A transform that the cluster runs while faults come: what is read of two topics goes to two sinks, by what is in it."""

import json
import subprocess
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from harness import TARGET, wait_until
from workload import PATIENCE, is_odd, said

NAME, SINKS, SINK_PARTITIONS = "split", ("odd", "even"), 3
PLUGIN = TARGET / "plugins" / "route.wasm"

# Two configurations that say the same: a release may follow the other at any time, and nothing else comes out.
CONFIGS = [
    {"routes": [{"to": "odd", "where": "/odd == true"}], "otherwise": "even"},
    {"routes": [{"to": "even", "where": "/odd == false"}], "otherwise": "odd"},
]


class Deployed:
    """Deploys it, changes how it runs now and then, and knows what has to come of it."""

    def __init__(self, cluster, sources, chance):
        self.cluster, self.sources, self.chance = cluster, sources, chance
        cluster.admin("plugin", "push", str(PLUGIN))
        words = ["--plugin", "route", "--config", json.dumps(CONFIGS[0]), "--from", ",".join(sources), "--to", ",".join(SINKS)]
        cluster.admin("transform", "deploy", NAME, *words, "--workers", "4", "--commit-interval", "200ms")

    def change(self):
        """Something that people do to a transform, and that nobody sees in what comes out."""
        release = ("--plugin", "route", "--config", json.dumps(self.chance.choice(CONFIGS)))
        changes = [
            ("scale", str(self.chance.randint(1, 8))),
            ("upgrade", *release),
            ("upgrade", *release, "--canary", "50%", "--canary-for", "3s"),
            ("promote",),
            ("rollback",),
            ("pause",),
        ]
        what, *more = self.chance.choice(changes)
        told = self.ask(what, *more)
        if what == "pause":
            time.sleep(self.chance.uniform(0.5, 3))
            self.resume()
        return told

    def ask(self, what, *more):
        try:
            done = self.cluster.admin("transform", what, NAME, *more, check=False)
        except subprocess.TimeoutExpired:
            return f"{what}: no answer"
        return " ".join([what, *more[2:]]) if done.returncode == 0 else f"{what}: {done.stderr.strip()[:100]}"

    def resume(self):
        """Also takes back a pause that nobody answered for. One that is not paused is left alone: what failed is to be seen."""
        wait_until(lambda: not self.describe()["paused"] or self.cluster.admin("transform", "resume", NAME), 60, "the transform is resumed")

    def describe(self):
        # A list of one is how one row comes out.
        described = self.cluster.admin("transform", "describe", NAME)
        return described[0] if isinstance(described, list) else described

    def wait_done(self, seconds):
        """Every partition of the sources runs, on a broker that is up, and has nothing left to do."""
        told = [None]

        def done():
            told[0] = self.describe()["partitions"]
            return told[0] and all(row["state"] == "running" and row["lag"] == 0 for row in told[0])

        try:
            wait_until(done, seconds, "the transform is done with everything")
        except AssertionError as late:
            rows = [f"{row['topic']}-{row['partition']}: {row}" for row in told[0] or []]
            raise AssertionError("\n".join([str(late), *rows])) from None
        return told[0]

    def check_logs(self):
        """What befalls a cluster never stops a partition: only its plugin could, and it has no reason to."""
        for node in self.cluster.nodes.values():
            stopped = [line for line in node.log.read_text().splitlines() if STOPPED in line]
            assert not stopped, f"broker {node.number}: {stopped[:3]}"

    def effects(self):
        """What a reader of committed records sees of the sinks: sink, partition, offset, source, value."""
        config = {"bootstrap.servers": self.cluster.bootstrap, "group.id": "effects", "enable.auto.commit": False, "enable.partition.eof": True}
        consumer = Consumer({**config, "isolation.level": "read_committed", **PATIENCE})
        found = []
        for place in [TopicPartition(sink, p, OFFSET_BEGINNING) for sink in SINKS for p in range(SINK_PARTITIONS)]:
            _, end = wait_until(lambda: consumer.get_watermark_offsets(place, timeout=30), 30, "the end of a sink is told")
            consumer.assign([place])
            # Whatever was begun is decided at last: then the end for readers of committed records is that of the log.
            wait_until(lambda: self.read_to(consumer, end, found), 90, f"{place.topic}-{place.partition} is read to its end {end}")
        consumer.close()
        return found

    def read_to(self, consumer, end, found):
        for message in consumer.consume(1000, 0.5):
            if message.error() is None:
                source = self.sources[1] if message.headers() else self.sources[0]
                found.append((message.topic(), message.partition(), message.offset(), source, said(message)))
            elif message.error().code() == KafkaError._PARTITION_EOF and message.offset() >= end:
                return True
        return end == 0


def sink_of(value):
    """Where the transform sends it."""
    return "odd" if is_odd(value) else "even"


STOPPED = "a partition of a transform stops"
