import pytest

from launch.restarts import HOUR, Restarts, combine, describe


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        ([0, 0], 0),
        ([75, 75, 75], 75),
        ([0, 75], 75),  # one had finished: running again lets all of them say so
        ([75, -6, 75], 75),  # a peer died of the coordinator's end, after the save
        ([134, 75], 75),
        ([2, 2], 2),
        ([75, 2], 2),
        ([75, 1], 1),
        ([-9, 1], 1),  # the cause is the one that chose its status, not the one that followed
        ([-9, 0], 137),
        ([143, 143], 143),
    ],
)
def test_status_of_a_group(statuses, together):
    assert combine(statuses) == together


def test_restarts_are_bounded_within_any_hour():
    now = [0.0]
    restarts = Restarts(per_hour=2, clock=lambda: now[0])
    assert restarts.allow()
    now[0] = HOUR - 1
    assert restarts.allow()
    assert not restarts.allow()
    now[0] = HOUR + 1  # the first is over an hour ago
    assert restarts.allow()
    assert not restarts.allow()


def test_statuses_are_described():
    assert "SIGKILL" in describe(137)
    assert "preempted" in describe(75)
    assert "defect" in describe(1)
