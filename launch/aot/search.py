"""Searches: the largest batch that fits, and the remat policy that computes least again."""

from collections.abc import Callable, Mapping
from typing import Any

from launch.aot.recompute import Cost

Row = dict[str, Any]
# (whether it fits, bytes that it needs or None where the compiler does not say)
Verdict = tuple[bool, int | None]
# Estimates are this close: what is estimated to need so much more than there is, is not compiled.
_SLACK = 1.05


def largest_batch(attempt: Callable[[int], Verdict], hbm: int, start: int, step: int = 8) -> int:
    """The largest multiple of `step` that fits, from `start` on, 0 if none does.

    What a batch needs grows with it along a line, nearly: two attempts give the next. Each attempt
    lies between what is known to fit and what is known not to, so the search ends.
    """
    fits, refused = 0, 0
    needs: dict[int, int] = {}
    trial = max(step, start // step * step)
    while trial:
        good, needed = attempt(trial)
        if needed is not None:
            needs[trial] = needed
        fits, refused = (trial, refused) if good else (fits, trial)
        trial = _next(fits, refused, needs, hbm, step)
    return fits


def _next(fits: int, refused: int, needs: dict[int, int], hbm: int, step: int) -> int:
    """The next batch to try, 0 at the end."""
    low = fits + step
    high = refused - step if refused else max(2 * fits, low)
    if low > high:
        return 0
    guess = (low + high) // 2 if refused else high
    if len(needs) > 1:
        (a, x), (b, y) = sorted(needs.items())[-2:]
        if y > x:
            guess = a + int((hbm - x) * (b - a) / (y - x))
            high = refused - step if refused else max(guess, low)
    return min(max(guess // step * step, low), high)


def best_policy(
    costs: Mapping[str, Cost], attempt: Callable[[str], Verdict], hbm: int | None, beside: int
) -> tuple[str | None, list[Row]]:
    """The policy with the fewest recomputed FLOPs that fits, and a row for each up to it.

    costs: of every policy. beside: a guess at the bytes that any of them needs beside what it
    keeps. What a policy needs is estimated as what it keeps, and what those compiled so far needed
    beyond that (before the first: the guess); of those that may fit, the one that computes least
    again is compiled next. So a search takes one to three compilations. Where none may fit, the one
    that keeps least is compiled, for the compiler to say so.
    """
    order = sorted(costs, key=lambda policy: (costs[policy].flops, costs[policy].kept))
    frugal = min(order, key=lambda policy: costs[policy].kept)
    tried: dict[str, Verdict] = {}
    best = None
    while (policy := _promising(order, costs, tried, best, hbm, beside)) or frugal not in tried:
        if policy is None:
            if best is not None:
                break
            policy = frugal
        tried[policy] = attempt(policy)
        best = policy if tried[policy][0] else best
    ahead = order[: order.index(best) + 1] if best else order
    free = min(cost.flops for cost in costs.values())
    known = _beside(costs, tried, beside)
    return best, [_row(each, costs[each], free, tried.get(each), known) for each in ahead]


def _promising(
    order: list[str],
    costs: Mapping[str, Cost],
    tried: Mapping[str, Verdict],
    best: str | None,
    hbm: int | None,
    guess: int,
) -> str | None:
    """The next policy to compile: the first before `best` that may fit."""
    known = _beside(costs, tried, guess)
    for policy in order[: order.index(best)] if best else order:
        if policy not in tried and (hbm is None or costs[policy].kept + known <= _SLACK * hbm):
            return policy
    return None


def _beside(costs: Mapping[str, Cost], tried: Mapping[str, Verdict], guess: int) -> int:
    """Bytes that a policy needs beside what it keeps: the fewest seen so far."""
    seen = [needed - costs[policy].kept for policy, (_, needed) in tried.items() if needed]
    return min(seen, default=guess)


def _row(policy: str, cost: Cost, free: float, verdict: Verdict | None, beside: int) -> Row:
    row: Row = {"policy": policy, "recomputed_flops": cost.flops - free, "kept": cost.kept}
    if verdict is None:
        return row | {"fits": None, "memory": {"estimate": cost.kept + beside}}
    return row | {"fits": verdict[0], "memory": {} if verdict[1] is None else {"peak": verdict[1]}}
