"""Markers that end transactions in partitions, and by which epochs they are taken (KIP-890, KIP-1228)."""

import pytest

from test_answers_isolation import Producer, look


def write(story, version, me, topic, epoch, transactions=None, partitions=(0,), commits=True, coordinator=0):
    """Asks for a marker with the producer's epoch and so much more."""
    more = dict(transaction_version=transactions) if version >= 2 else {}
    each = []
    for producer in me:
        marker = dict(producer_id=producer["producer_id"], producer_epoch=producer["producer_epoch"] + epoch, transaction_result=commits)
        marker |= dict(topics=[dict(name=topic, partition_indexes=list(partitions))], coordinator_epoch=coordinator, **more)
        each.append(dict(markers=[marker]))
    story.ask("WriteTxnMarkers", version, each=each)


@pytest.mark.parametrize("version, transactions", [(1, None), (2, 0), (2, 1), (2, 2)])
def test_markers_are_taken_by_their_epochs(story, version, transactions):
    name = f"marked-{version}-{transactions}"
    story.topic(name)
    producer = Producer(story, name)
    producer.begin(name)
    producer.produce(name)
    story.note = f"transactions {transactions}"
    mark = lambda epoch, **more: write(story, version, producer.me, name, epoch, transactions, **more)  # noqa: E731
    mark(-1)
    mark(0, partitions=[0, 9])
    mark(0, coordinator=-1)
    mark(1)
    mark(1)
    mark(1, commits=False)
    mark(0)
    mark(3, coordinator=2)
    mark(4, coordinator=1)
    mark(4, coordinator=2)
    write(story, version, producer.me, "nobody-made-this", 1, transactions)
    write(story, version, [dict(producer_id=1 << 30, producer_epoch=5)] * 2, name, 0, transactions)
    look(story, name)
