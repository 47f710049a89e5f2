"""Judges transactions by what their clients wrote and read, as the Kafka workload of Jepsen does.

Which transaction depends on which is told by reads alone. The order of records in a partition says nothing of the order of
transactions: Kafka lets several write to a partition at a time, each keeps its place there, and readers wait for the first
that is open. So two may each be before the other, in two partitions (Adya's G0, which Jepsen finds in Kafka and calls
harmless), while nobody may read what the other one has not committed.
"""

from collections import defaultdict

from judge import Verdict, offsets_of_values, order, polls


def judge_transactions(transactions, passes, final):
    """Compares what clients know of their transactions with the last reading of what is committed."""
    verdict = Verdict()
    committed = [made for made in transactions if made.outcome == "committed"]
    at = offsets_of_values(verdict, committed, passes, final)
    order(verdict, final)
    polls(verdict, passes, at)
    ends(verdict, transactions, passes, final)
    cycles(verdict, transactions)
    return verdict


def ends(verdict, transactions, passes, final):
    """All of a transaction is there if it was committed, nothing if it was aborted (G1a), all or nothing if nobody knows."""
    values = {value for _, _, value in final}
    read = values | {value for seen in passes for _, _, value in seen}
    sent = set()
    for made in transactions:
        sent.update(made.wrote)
        there = [value for value in made.wrote if value in values]
        if made.outcome == "committed" and len(there) < len(made.wrote):
            verdict.add("lost transactional writes", sorted(set(made.wrote) - set(there)))
        if made.outcome == "aborted" and read.intersection(made.wrote):
            verdict.add("aborted reads", sorted(read.intersection(made.wrote)))
        if made.outcome == "unknown" and 0 < len(there) < len(made.wrote):
            verdict.add("transactions in part", (made.wrote, there))
    for value in read - sent:
        verdict.add("records from nowhere", value)


def cycles(verdict, transactions):
    """Nobody reads what is committed after its own end (G1c): who reads of another one comes after it, and so does the next
    transaction of the same client."""
    writers = {value: n for n, made in enumerate(transactions) for value in made.wrote}
    after, last = defaultdict(set), {}
    for n, made in enumerate(transactions):
        if made.process in last:
            after[last[made.process]].add(n)
        last[made.process] = n
        for _, _, value in made.read:
            if value in writers:
                after[writers[value]].add(n)
    found = cycle(after, len(transactions))
    if found:
        verdict.add("cycles of reads", [transactions[n].wrote for n in found])


def cycle(after, count):
    """Some cycle of a graph, or nothing."""
    state = [0] * count
    for start in range(count):
        path = [(start, iter(after[start]))] if not state[start] else []
        while path:
            node, rest = path[-1]
            state[node] = 1
            for next_one in rest:
                if state[next_one] == 1:
                    nodes = [n for n, _ in path]
                    return nodes[nodes.index(next_one) :]
                if state[next_one] == 0:
                    path.append((next_one, iter(after[next_one])))
                    break
            else:
                state[node] = 2
                path.pop()
    return None
