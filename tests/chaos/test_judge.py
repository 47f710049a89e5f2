"""The judge finds what is wrong in a record of a run, and nothing in one that is right."""

from types import SimpleNamespace

from judge import judge


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
