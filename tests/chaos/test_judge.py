"""The judge finds what is wrong in a record of a run, and nothing in one that is right."""

from types import SimpleNamespace

from judge import judge


def verdict(final, acknowledged=None, refused=(), passes=(), committed=(), epochs=None):
    acknowledged = acknowledged or {}
    sent = {value for _, _, value in final} | set(acknowledged) | set(refused)
    sender = SimpleNamespace(sent=sent, acknowledged=acknowledged, refused=set(refused))
    return judge([sender], passes, final, committed, lambda _, offset: (7, (epochs or {}).get(offset, 0)))


GOOD = [(0, 0, "0-0-0"), (0, 1, "0-0-1"), (0, 2, "0-0-2")]


def test_what_is_right_is_right():
    seen = [GOOD, GOOD[1:]]
    assert not verdict(GOOD, {"0-0-1": (0, 1)}, passes=seen, committed=[("committed", 0, 2), ("found", 0, 2)])


def test_what_is_wrong_is_found():
    assert "lost writes" in verdict(GOOD, {"0-0-9": (0, 3)})
    assert "inconsistent offsets" in verdict(GOOD, {"0-0-1": (0, 2)})
    assert "aborted reads" in verdict(GOOD, refused=["0-0-2"])
    assert "duplicates" in verdict([*GOOD, (0, 3, "0-0-1")])
    assert "out of order" in verdict([*GOOD, (0, 3, "0-0-1")])
    assert "polls that skip" in verdict(GOOD, passes=[[GOOD[0], GOOD[2]]])
    assert "polls that go back" in verdict(GOOD, passes=[[GOOD[1], GOOD[0]]])
    assert "committed offsets that went back" in verdict(GOOD, committed=[("committed", 0, 2), ("found", 0, 1)])


def test_a_client_that_sends_again_in_another_epoch_is_no_anomaly_of_the_cluster():
    again = [*GOOD, (0, 3, "0-0-2"), (0, 4, "0-0-3")]
    found = verdict(again, epochs={3: 1, 4: 1})
    assert not found and len(found.sent_again) == 1
    # Once for each epoch, in its order, and in its partition.
    assert "duplicates" in verdict([*again, (0, 5, "0-0-3")], epochs={3: 1, 4: 1, 5: 1})
    assert "out of order" in verdict([*again, (0, 5, "0-0-2")], epochs={3: 1, 4: 1, 5: 1})
    assert "duplicates" in verdict([*GOOD, (1, 3, "0-0-2")], epochs={3: 1})
