"""What `/metrics` of three brokers tells together."""

import re
import urllib.request

from brokers import wait_until
from confluent_kafka import Consumer, TopicPartition
from steps import make_topic, write

LAG = re.compile(r'millstream_group_lag_records\{group="(.*)",topic="(.*)",partition="(\d+)"\} (\d+)')


def lags(cluster, group):
    """The lag of each partition of a group, by the broker that tells it."""
    found = []
    for number, node in cluster.nodes.items():
        with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=10) as answer:
            told = LAG.findall(answer.read().decode())
        found += [(int(partition), int(lag), number) for of, _, partition, lag in told if of == group]
    return sorted(found)


def test_the_lag_of_a_group_is_told_by_its_coordinator_wherever_the_partitions_are(three, name):
    make_topic(three, name, partitions=3, replicas=1)
    leaders = {partition.leader for partition in three.partitions(name).values()}
    assert len(leaders) == 3, "each broker has one of the partitions, and none of the others"
    for partition in range(3):
        write(three.bootstrap, name, [b"x"] * 5, partition)
    consumer = Consumer({"bootstrap.servers": three.bootstrap, "group.id": name})
    consumer.commit(offsets=[TopicPartition(name, partition, partition) for partition in range(3)], asynchronous=False)
    consumer.close()
    told = wait_until(lambda: len(lags(three, name)) >= 3 and lags(three, name), 10, "the lag is told")
    assert [(partition, lag) for partition, lag, _ in told] == [(0, 5), (1, 4), (2, 3)]
    assert len({number for *_, number in told}) == 1, "by one broker"
