"""The judge finds what is wrong in a record of a run, and nothing in one that is right."""

from types import SimpleNamespace

from judge import judge, judge_effects
from judge_transactions import judge_transactions


def verdict(final, acknowledged=None, refused=(), passes=(), committed=()):
    acknowledged = acknowledged or {}
    sent = {value for _, _, value in final} | set(acknowledged) | set(refused)
    sender = SimpleNamespace(sent=sent, acknowledged=acknowledged, refused=set(refused))
    return judge([sender], passes, final, committed)


GOOD = [(0, 0, "0-0-0"), (0, 1, "0-0-1"), (0, 2, "0-0-2")]


def test_what_is_right_is_right():
    seen = [GOOD, GOOD[1:]]
    assert not verdict(GOOD, {"0-0-1": (0, 1)}, passes=seen, committed=[("committed", 0, 2), ("found", 0, 2)])


def test_what_is_acknowledged_without_its_place_has_to_be_there():
    assert not verdict(GOOD, {"0-0-1": (0, None)})
    assert "lost writes" in verdict(GOOD, {"0-0-9": (0, None)})


def test_what_is_wrong_is_found():
    assert "lost writes" in verdict(GOOD, {"0-0-9": (0, 3)})
    assert "inconsistent offsets" in verdict(GOOD, {"0-0-1": (0, 2)})
    assert "aborted reads" in verdict(GOOD, refused=["0-0-2"])
    assert "duplicates" in verdict([*GOOD, (0, 3, "0-0-1")])
    assert "out of order" in verdict([*GOOD, (0, 3, "0-0-1")])
    assert "polls that skip" in verdict(GOOD, passes=[[GOOD[0], GOOD[2]]])
    assert "polls that go back" in verdict(GOOD, passes=[[GOOD[1], GOOD[0]]])
    assert "committed offsets that went back" in verdict(GOOD, committed=[("committed", 0, 2), ("found", 0, 1)])


SOURCES = {("in", 0): ["0-0-0", "0-0-2"], ("in", 1): ["0-1-1"]}
SENT = {"0-0-0", "0-0-2", "0-1-1", "0-0-4"}
EFFECTS = [("even", 0, 0, "in", "0-0-0"), ("odd", 1, 0, "in", "0-1-1"), ("even", 0, 2, "in", "0-0-2")]


def effects_verdict(effects):
    return judge_effects(SOURCES, SENT, effects, lambda value: "odd" if value == "0-1-1" else "even")


def test_effects_that_are_right_are_right():
    assert not effects_verdict(EFFECTS)


def test_effects_that_are_wrong_are_found():
    assert list(effects_verdict(EFFECTS[:2])) == ["lost effects"]
    assert list(effects_verdict([*EFFECTS, ("even", 1, 0, "in", "0-0-2")])) == ["effects that came twice"]
    assert list(effects_verdict([*EFFECTS, ("even", 1, 0, "in", "0-0-4")])) == ["effects of what was not stored"]
    assert list(effects_verdict([*EFFECTS, ("even", 1, 0, "other", "0-0-9")])) == ["effects of what nobody sent"]
    assert list(effects_verdict([("odd", 0, 0, "in", "0-0-0"), *EFFECTS[1:]])) == ["effects in the wrong sink"]
    assert list(effects_verdict([("even", 0, 3, "in", "0-0-0"), *EFFECTS[1:]])) == ["effects out of order"]


def made(process, wrote, read=(), outcome="committed"):
    return SimpleNamespace(process=process, wrote=wrote, read=[(0, 0, value) for value in read], acknowledged={}, outcome=outcome)


def transactions_verdict(transactions, passes=()):
    return list(judge_transactions(transactions, passes, GOOD))


def test_transactions_that_are_right_are_right():
    whole = made(0, ["0-0-0", "0-0-1"])
    assert not transactions_verdict([whole, made(0, ["0-0-2"], outcome="unknown"), made(1, ["1-0-0"], ["0-0-0"], "aborted")])
    assert not transactions_verdict([whole, made(0, ["0-0-2"]), made(0, ["0-1-3", "0-2-4"], outcome="unknown")])


def test_transactions_that_are_wrong_are_found():
    rest = made(0, ["0-0-2"])
    assert transactions_verdict([made(0, ["0-0-0", "0-0-1", "0-3-9"]), rest]) == ["lost transactional writes"]
    assert transactions_verdict([made(0, ["0-0-0", "0-0-1"], outcome="aborted"), rest]) == ["aborted reads"]
    assert transactions_verdict([made(0, ["0-0-0", "0-0-1", "0-3-9"], outcome="unknown"), rest]) == ["transactions in part"]
    assert transactions_verdict([rest]) == ["records from nowhere"]
    whole = made(0, ["0-0-0", "0-0-1"])
    aborted = made(1, ["1-0-7"], outcome="aborted")
    assert "aborted reads" in transactions_verdict([whole, rest, aborted], [[(0, 5, "1-0-7")]])
    # Each has read what the other one wrote.
    first, second = made(0, ["0-0-0", "0-0-1"], ["0-0-2"]), made(1, ["0-0-2"], ["0-0-0"])
    assert transactions_verdict([first, second]) == ["cycles of reads"]
    # It read what it had not committed yet; and what was written after it.
    assert transactions_verdict([made(0, ["0-0-0", "0-0-1"], ["0-0-0"]), rest]) == ["cycles of reads"]
    assert transactions_verdict([made(0, ["0-0-0", "0-0-1"], ["0-0-2"]), rest]) == ["cycles of reads"]
