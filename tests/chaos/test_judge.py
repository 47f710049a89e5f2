"""The judge finds what is wrong in a record of a run, and nothing in one that is right."""

from types import SimpleNamespace

from judge import judge, judge_effects


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
