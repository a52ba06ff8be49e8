"""The searches: the largest batch that fits, the remat policy that computes least again."""

import math

import pytest

from launch.aot.recompute import Cost, policies
from launch.aot.search import best_policy, largest_batch


@pytest.mark.parametrize("limit", [7, 8, 15, 16, 200, 1000, 12345])
@pytest.mark.parametrize("start", [8, 64, 500])
def test_the_largest_batch_is_found_in_few_attempts(limit, start):
    tried = []

    def attempt(batch):
        tried.append(batch)
        # Steps in what a batch needs, as padding makes them.
        return batch <= limit, 1000 + 10 * batch + 37 * (batch % 64 > 0)

    best = largest_batch(attempt, 1000 + 10 * limit + 37, start)
    assert best == limit // 8 * 8
    assert len(tried) == len(set(tried)) <= 6 + math.log2(1 + max(limit, start) / 8)


def test_a_compiler_that_does_not_say_what_it_needs():
    assert largest_batch(lambda batch: (batch <= 100, None), 1, 8) == 96


class Compiler:
    """Policies need what they keep and `beside`; the compiler saves a little of the large ones."""

    def __init__(self, hbm, beside=30):
        self.hbm, self.beside, self.tried = hbm, beside, []

    def __call__(self, policy):
        self.tried.append(policy)
        needed = COSTS[policy].kept + self.beside
        return needed <= self.hbm, needed


COSTS = {
    "none": Cost(100, 400),
    "a+b+c": Cost(101, 100),
    "a+b": Cost(105, 70),
    "a+c": Cost(110, 60),
    "b+c": Cost(112, 65),
    "a": Cost(120, 30),
    "full": Cost(130, 10),
}


@pytest.mark.parametrize("guess", [0, 20, 30, 50, 10_000])
@pytest.mark.parametrize(
    ("hbm", "best", "compilations"),
    [
        (1000, "none", 1),
        (430, "none", 1),
        (132, "a+b+c", 2),
        (100, "a+b", 2),
        (91, "a+c", 3),
        (61, "a", 3),
        (45, "full", 2),
        (39, None, 2),
    ],
)
def test_the_policy_that_computes_least_again_in_few_compilations(hbm, best, compilations, guess):
    compiler = Compiler(hbm)
    found, rows = best_policy(COSTS, compiler, hbm, guess)
    assert found == best
    assert len(compiler.tried) == len(set(compiler.tried)) <= compilations + 2 * (guess != 30)
    fitting = [p for p, cost in COSTS.items() if cost.kept + compiler.beside <= hbm]
    assert found == min(fitting, key=lambda p: (COSTS[p].flops, COSTS[p].kept), default=None)
    for row in rows:
        if row["fits"] is None:
            assert row["memory"]["estimate"] > hbm and row["policy"] not in compiler.tried
        else:
            assert row["fits"] == (row["policy"] == best)
    assert [row["recomputed_flops"] for row in rows] == sorted(r["recomputed_flops"] for r in rows)


def test_where_memory_is_unknown_nothing_need_be_computed_again():
    found, rows = best_policy(COSTS, lambda policy: (True, None), None, beside=20)
    assert found == "none"
    assert [row["policy"] for row in rows] == ["none"]


def test_where_nothing_can_fit_the_most_frugal_policy_says_so():
    compiler = Compiler(hbm=25)
    found, rows = best_policy(COSTS, compiler, 25, beside=28)
    assert found is None and compiler.tried == ["full"]
    assert len(rows) == len(COSTS) and rows[-1]["memory"] == {"peak": 40}


def test_every_choice_of_what_a_layer_keeps_is_a_policy():
    assert len(policies()) == len(set(policies())) == 17
    assert {"none", "full", "qkv", "qkv+attention+residual+hidden"} <= set(policies())
