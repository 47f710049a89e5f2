"""Judges a run by what clients sent, had acknowledged and read.

The anomalies are those that the Kafka workload of Jepsen looks for: lost writes, duplicates, records out of order,
aborted reads, inconsistent offsets, polls that skip or go back.

A broker answers for what one epoch of one producer sends: once, and in order. librdkafka begins a new epoch when it hears
OUT_OF_ORDER_SEQUENCE_NUMBER for a request that was not its first in flight, and then sends again what may be stored
already. Such copies are told, and are not counted as anomalies. This has a price: a broker that gives that answer
wrongly is not found here. One way to it is known: a request is refused for want of replicas in sync, the next one is
looked at when there are enough again, and its sequence numbers have a gap.
"""

from collections import defaultdict


class Verdict(dict):
    """Anomalies by kind, each with some examples; and what clients sent twice by themselves."""

    def __init__(self):
        super().__init__()
        self.sent_again = []

    def add(self, kind, example):
        self.setdefault(kind, []).append(example)

    def __str__(self):
        return "\n".join(f"{kind}: {len(found)}, such as {found[:3]}" for kind, found in self.items()) or "no anomaly"


def judge(senders, passes, final, committed, writer):
    """Compares what clients know with the last reading of the whole topic. `writer` tells which producer stored what is
    at an offset, and in which epoch: (partition, offset) -> (id, epoch)."""
    verdict = Verdict()
    places = offsets_of_values(verdict, senders, passes, final, writer)
    lost_and_unwanted(verdict, senders, final)
    order(verdict, final, writer)
    polls(verdict, passes, places)
    commits(verdict, committed)
    return verdict


def offsets_of_values(verdict, senders, passes, final, writer):
    """At one offset there is one record, whoever looks and whenever; and a record is at one offset of each epoch."""
    at = {}
    for partition, offset, value in final:
        at[partition, offset] = value
    claims = [claim for seen in passes for claim in seen]
    claims += [(p, o, value) for sender in senders for value, (p, o) in sender.acknowledged.items()]
    ends = defaultdict(int)
    for partition, offset in at:
        ends[partition] = max(ends[partition], offset)
    for partition, offset, value in claims:
        found = at.get((partition, offset))
        if found != value:
            verdict.add("inconsistent offsets", (partition, offset, value, found))
    seen = {}
    for partition, offset, value in final:
        place, epoch = (partition, offset), writer(partition, offset)
        copies = seen.setdefault(value, {})
        if epoch in copies or any(copy[0] != partition for copy in copies.values()):
            verdict.add("duplicates", (value, copies, place, epoch))
        elif copies:
            verdict.sent_again.append((value, copies, place, epoch))
        copies[epoch] = place
    return at


def lost_and_unwanted(verdict, senders, final):
    values = {value for _, _, value in final}
    for sender in senders:
        for value, place in sender.acknowledged.items():
            if value not in values:
                verdict.add("lost writes", (value, place))
        for value in sender.refused:
            if value in values:
                verdict.add("aborted reads", value)
    sent = {value for sender in senders for value in sender.sent}
    for value in values - sent:
        verdict.add("records from nowhere", value)


def order(verdict, final, writer):
    """Of one epoch of a sender, a partition has records in the order in which they were sent."""
    last = {}
    for partition, offset, value in sorted(final):
        sender, _, count = value.split("-")
        key = (partition, sender, writer(partition, offset))
        if key in last and int(count) <= last[key]:
            verdict.add("out of order", (partition, offset, value, last[key]))
        last[key] = int(count)


def polls(verdict, passes, at):
    """One reading goes forwards, and leaves nothing out that is there."""
    there = defaultdict(list)
    for partition, offset in sorted(at):
        there[partition].append(offset)
    ranks = {partition: {offset: n for n, offset in enumerate(offsets)} for partition, offsets in there.items()}
    for seen in passes:
        last = {}
        for partition, offset, _ in seen:
            rank = ranks.get(partition, {}).get(offset)
            if rank is None:
                continue
            if partition in last and rank <= last[partition]:
                verdict.add("polls that go back", (partition, offset))
            elif partition in last and rank > last[partition] + 1:
                verdict.add("polls that skip", (partition, there[partition][last[partition] + 1], offset))
            last[partition] = rank


def commits(verdict, events):
    """What a group has committed does not go back by itself."""
    committed = {}
    for kind, partition, offset in events:
        if kind == "committed":
            committed[partition] = offset
        elif offset < committed.get(partition, 0):
            verdict.add("committed offsets that went back", (partition, committed[partition], offset))
