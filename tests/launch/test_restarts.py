import pytest

from launch.restarts import HOUR, Restarts, combine, describe, exit_codes, without_own

SEGV, ABRT, KILL, TERM, INT = 139, 134, 137, 143, 130


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        ([0, 0], 0),
        ([75, 75, 75], 75),
        ([0, 75], 75),  # one had finished: running again lets all of them say so
        ([75, -6, 75], 75),  # a peer died of the coordinator's end, after the save
        ([ABRT, 75], 75),
        ([2, 2], 2),
        ([75, 2], 2),
        ([75, 1], 1),
        ([-9, 1], 1),  # the cause is the one that chose its status, not the one that followed
        ([70, -9], 70),
        ([-9], 75),  # its memory ran out, or its machine was taken: nobody wrote a reason
        ([-9, 0], 75),
        ([-9, -6], 75),  # JAX aborted one that lost the coordinator
        ([KILL, ABRT, ABRT], 75),
        ([TERM, TERM], 75),
        ([-9, -11], 75),  # a peer that is taken is reason enough for what follows
        ([-11, 75], SEGV),  # left alone by one that crashed
        ([-11, -6, 0], SEGV),
        ([-6, -6], ABRT),
        ([0, INT], INT),  # somebody's Ctrl-C
    ],
)
def test_status_of_a_group(statuses, together):
    assert combine(statuses) == together


def test_whom_the_launcher_killed_was_not_taken():
    """A member crashed, the others hung and were killed for it."""
    assert combine(without_own([-11, -9, KILL, TERM], told=[1, 2, 3])) == SEGV
    assert combine(without_own([-9, -9], told=[1])) == 75
    assert combine(without_own([-11, 75, 3], told=[1, 2])) == 3


def test_restarts_are_bounded_within_any_hour():
    now = [0.0]
    restarts = Restarts(per_hour=2, clock=lambda: now[0])
    assert restarts.judge(75).again
    now[0] = HOUR - 1
    assert restarts.judge(75).again
    assert "too many restarts" in restarts.judge(75).why
    now[0] = HOUR + 1  # the first is over an hour ago
    assert restarts.judge(75).again
    assert not restarts.judge(75).again


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([SEGV, SEGV], [True, False]),
        ([ABRT, SEGV], [True, False]),  # a crash is a crash
        ([ABRT, 75, ABRT, 75], [True] * 4),
        ([1], [False]),
        ([2], [False]),
        ([INT], [False]),
        ([0], [False]),
    ],
)
def test_a_crash_is_run_again_once(ends, expected):
    restarts = Restarts(per_hour=9, clock=lambda: 0.0)
    assert [restarts.judge(status).again for status in ends] == expected


def test_the_statuses_that_srun_hides_are_read_from_its_words():
    log = (
        "launch: 2026-12-01T03:00:00+00:00 job 7 on n[1-2], start 1: python -m x\n"
        "srun: error: n1: task 0: Exited with exit code 3\n"
        "launch: 2026-12-01T04:00:00+00:00 job 7 on n[1-2], start 2: python -m x\n"
        "srun: error: n1: tasks 0-6: Exited with exit code 75\n"
        "step 7: task 1: Exited with exit code 9, says a program\n"
        "srun: error: n2: task 8: Killed\n"
        "srun: error: n2: task 9,11: Exited with exit code 1\n"
    )
    assert exit_codes(log) == [75, 1]
    assert combine([KILL, *exit_codes(log)]) == 1
    assert exit_codes("") == []


def test_statuses_are_described():
    assert "SIGKILL" in describe(137)
    assert "preempted" in describe(75)
    assert "defect" in describe(1)
