"""What readers of committed records get while transactions begin and end, and what is known of who writes them."""

import struct

from batches import TIME, batch, record
from story import fetch_values

TRANSACTIONAL = 0x10


class Producer:
    """A transactional producer, the same at both brokers but for its id."""

    def __init__(self, story, name):
        self.story, self.name, self.sequence = story, name, 0
        init = dict(transactional_id=name, transaction_timeout_ms=60_000, producer_id=-1, producer_epoch=-1)
        # At first coordinators are still being made, and one broker may have to be asked more often than the other.
        works = lambda answer: answer["error_code"] == 0  # noqa: E731
        story.settle("FindCoordinator", 3, works, key=name, key_type=1)
        story.settle("InitProducerId", 4, works, **init)
        answers = story.ask("InitProducerId", 4, **init)
        self.me = [{key: answer[key] for key in ("producer_id", "producer_epoch")} for answer in answers]

    def begin(self, topic):
        fields = {"producer_id": "v3_and_below_producer_id", "producer_epoch": "v3_and_below_producer_epoch"}
        each = [{fields[key]: value for key, value in me.items()} for me in self.me]
        topics = [dict(name=topic, partitions=[0])]
        more = dict(v3_and_below_transactional_id=self.name, v3_and_below_topics=topics)
        self.story.ask("AddPartitionsToTxn", 3, each=each, **more)

    def produce(self, topic, time=TIME):
        """Two records."""
        batches = [
            batch(*pair(), attributes=TRANSACTIONAL, base_time=time, max_time=time, producer_id=me["producer_id"], epoch=me["producer_epoch"], sequence=self.sequence)
            for me in self.me
        ]  # fmt: skip
        self.sequence += 2
        each = [dict(topic_data=[dict(name=topic, partition_data=[dict(index=0, records=records)])]) for records in batches]
        self.story.ask("Produce", 9, each=each, transactional_id=self.name, acks=-1, timeout_ms=5000)

    def end(self, topic, committed, stable, high=None):
        """Ends the transaction; returns when readers see it, up to `stable`, or its marker, below `high`."""
        self.story.ask("EndTxn", 3, each=self.me, transactional_id=self.name, committed=committed)
        for isolation, end in ((1, stable), (0, high)):
            decided = lambda answer: end in (None, answer["topics"][0]["partitions"][0]["offset"])  # noqa: E731, B023
            self.story.settle("ListOffsets", 5, decided, **latest(topic, isolation=isolation))


def pair():
    return record(0, value=b"v0"), record(1, value=b"v1")


def latest(topic, at=-1, isolation=1):
    partitions = [dict(partition_index=0, timestamp=at, current_leader_epoch=-1)]
    return dict(replica_id=-1, isolation_level=isolation, topics=[dict(name=topic, partitions=partitions)])


def spans(answer):
    """The batches of an answer: first offset, last offset, attributes."""
    data, found = bytes(answer["responses"][0]["partitions"][0]["records"] or b""), []
    while data:
        first, length = struct.unpack_from(">qi", data)
        attributes, delta = struct.unpack_from(">hi", data, 21)
        found.append((first, first + delta, attributes))
        data = data[12 + length :]
    return found


def look(story, topic, ignored=()):
    """Reads all there is, with both isolations, and asks who writes."""
    # Records have the producers' ids in them, which differ; where they lie is compared beside that.
    story.ignored = {"records", *ignored}
    for version in (4, 9, 12):
        for isolation in (0, 1):
            for offset in (0, 2, 3, 5, 6, 8, 9, 10, 11, 99):
                at = dict(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
                values = fetch_values(version, isolation_level=isolation)
                answers = story.ask("Fetch", version, topics=[dict(topic=topic, partitions=[at])], **values)
                kafka, ours = (spans(answer) for answer in answers)
                assert kafka == ours, (version, isolation, offset)
    # Markers have times of their own.
    story.ignored = {"timestamp"}
    for isolation in (0, 1):
        for time in (-1, -2, -3, 0, TIME, TIME + 1, TIME + 1000, TIME + 5000):
            story.ask("ListOffsets", 7, **latest(topic, time, isolation))
    story.ignored = set()
    topics = [dict(name=topic, partition_indexes=[0, 7]), dict(name="nobody-made-this", partition_indexes=[0])]
    story.ask("DescribeProducers", 0, topics=topics)


def test_readers_of_committed_records(story):
    topic = "isolation"
    story.topic(topic)
    first, second = (Producer(story, f"isolation-{name}") for name in "ab")
    story.produce(topic, batch(*pair()))
    look(story, topic)
    first.begin(topic)
    look(story, topic)
    first.produce(topic, TIME + 1000)
    story.produce(topic, batch(*pair()))
    look(story, topic)
    second.begin(topic)
    second.produce(topic, TIME + 2000)
    first.end(topic, False, stable=6)
    look(story, topic)
    second.end(topic, True, stable=10)
    look(story, topic)
    story.produce(topic, batch(*pair()))
    look(story, topic)


def test_a_transaction_that_holds_back_others(story):
    topic = "isolation-nested"
    story.topic(topic)
    first, second = (Producer(story, f"isolation-nested-{name}") for name in "ab")
    for producer in (first, second):
        producer.begin(topic)
        producer.produce(topic)
    second.end(topic, False, stable=0, high=5)
    # Kafka names aborted transactions up to the end of the log, ours those in the answer.
    look(story, topic, ignored=["aborted_transactions"])
    first.produce(topic)
    first.end(topic, True, stable=8)
    look(story, topic)
    for committed, stable in ((False, 11), (True, 14), (False, 17)):
        second.begin(topic)
        second.produce(topic)
        second.end(topic, committed, stable)
        look(story, topic)


def test_a_transaction_is_ended_by_whoever_was_told_whose_it_is(story):
    """Sinks with two phases, as Flink has them, keep the producer's id and epoch, and commit from another process."""
    topic, name = "isolation-two-phases", "isolation-sink"
    story.topic(topic)
    sink = Producer(story, name)
    sink.begin(topic)
    sink.produce(topic)
    story.reconnect()
    sink.end(topic, True, stable=3)
    story.ask("EndTxn", 3, each=sink.me, transactional_id=name, committed=True)
    story.ask("EndTxn", 3, each=sink.me, transactional_id=name, committed=False)
    look(story, topic)
    sink.begin(topic)
    sink.produce(topic)
    story.reconnect()
    # It comes back without what it had kept: what was open is aborted, and nobody else commits it.
    successor = Producer(story, name)
    decided = lambda answer: answer["topics"][0]["partitions"][0]["offset"] == 6  # noqa: E731
    story.settle("ListOffsets", 5, decided, **latest(topic))
    story.ask("EndTxn", 3, each=sink.me, transactional_id=name, committed=True)
    successor.begin(topic)
    successor.produce(topic)
    successor.end(topic, True, stable=9)
    look(story, topic)
