"""Judges a run by what clients sent, had acknowledged and read.

The anomalies are those that the Kafka workload of Jepsen looks for: lost writes, duplicates, records out of order,
aborted reads, inconsistent offsets, polls that skip or go back.
"""

from collections import defaultdict


class Verdict(dict):
    """Anomalies by kind, each with some examples."""

    def add(self, kind, example):
        self.setdefault(kind, []).append(example)

    def __str__(self):
        return "\n".join(f"{kind}: {len(found)}, such as {found[:3]}" for kind, found in self.items()) or "no anomaly"


def judge(senders, passes, final, committed):
    """Compares what clients know with the last reading of the whole topic."""
    verdict = Verdict()
    places = offsets_of_values(verdict, senders, passes, final)
    lost_and_unwanted(verdict, senders, final)
    order(verdict, final)
    polls(verdict, passes, places)
    commits(verdict, committed)
    return verdict


def judge_effects(sources, sent, effects, belongs):
    """Compares what a transform made with what it read: `sources` has the values of each (topic, partition) in their order,
    `effects` what is read of its sinks, `belongs` says which sink a value belongs to."""
    verdict = Verdict()
    places = {(topic, value): (partition, at) for (topic, partition), values in sources.items() for at, value in enumerate(values)}
    seen, last = {}, {}
    for sink, partition, offset, topic, value in sorted(effects):
        here = (sink, partition, offset)
        place = places.get((topic, value))
        if place is None:
            kind = "effects of what was not stored" if value in sent else "effects of what nobody sent"
            verdict.add(kind, (here, topic, value))
            continue
        if (topic, value) in seen:
            verdict.add("effects that came twice", (topic, value, seen[topic, value], here))
        seen[topic, value] = here
        if sink != belongs(value):
            verdict.add("effects in the wrong sink", (here, topic, value))
        # What comes of one partition comes in its order, on each partition of a sink.
        source, at = place
        before = last.get((sink, partition, topic, source), -1)
        if at < before:
            verdict.add("effects out of order", (here, topic, value, at, before))
        last[sink, partition, topic, source] = at
    for topic, value in places.keys() - seen.keys():
        verdict.add("lost effects", (topic, value, places[topic, value]))
    return verdict


def offsets_of_values(verdict, senders, passes, final):
    """At one offset there is one record, whoever looks and whenever; and a record is at one offset."""
    at = {}
    for partition, offset, value in final:
        at[partition, offset] = value
    claims = [claim for seen in passes for claim in seen]
    # A client that hears of the next batch first knows of this one that it is stored, and not where.
    told = [(value, place) for sender in senders for value, place in sender.acknowledged.items() if place[1] is not None]
    claims += [(p, o, value) for value, (p, o) in told]
    ends = defaultdict(int)
    for partition, offset in at:
        ends[partition] = max(ends[partition], offset)
    for partition, offset, value in claims:
        found = at.get((partition, offset))
        if found != value:
            verdict.add("inconsistent offsets", (partition, offset, value, found))
    seen = {}
    for partition, offset, value in final:
        if value in seen:
            verdict.add("duplicates", (value, seen[value], (partition, offset)))
        seen[value] = (partition, offset)
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


def order(verdict, final):
    """Of one sender, a partition has records in the order in which they were sent."""
    last = {}
    for partition, offset, value in sorted(final):
        sender, _, count = value.split("-")
        key = (partition, sender)
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
