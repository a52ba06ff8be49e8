"""Searches: the largest batch that fits, and the remat policy that computes least again."""

from collections.abc import Callable
from typing import Any

from launch.aot.recompute import Cost

Row = dict[str, Any]
# (whether it fits, bytes that it needs or None where the compiler does not say)
Verdict = tuple[bool, int | None]


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
    costs: dict[str, Cost], attempt: Callable[[str], Verdict], hbm: int | None
) -> tuple[str | None, list[Row]]:
    """The policy with the fewest recomputed FLOPs that fits, and a row for each that was looked at.

    costs: of every policy, "none" and "full" among them. "full" is compiled first; what another
    needs is about that and what it keeps beyond it. Those that need too much by a twentieth are not
    compiled; the others are, in order of what they compute again, until one fits.
    """
    free = costs["none"].flops
    rows = [_row("full", costs["full"], free, attempt("full"))]
    needed = rows[0]["memory"].get("peak", 0)
    for policy, cost in sorted(costs.items(), key=lambda item: (item[1].flops, item[1].kept)):
        if policy == "full":
            break
        about = needed + cost.kept - costs["full"].kept
        if hbm is not None and about > 1.05 * hbm:
            why = f"it would need about {about / 2**30:.1f} GiB"
            rows.append(_row(policy, cost, free, None, why))
            continue
        rows.append(_row(policy, cost, free, attempt(policy)))
        if rows[-1]["fits"]:
            return policy, rows
    return ("full" if rows[0]["fits"] else None), rows


def _row(policy: str, cost: Cost, free: float, verdict: Verdict | None, why: str = "") -> Row:
    row: Row = {
        "policy": policy,
        "recomputed_flops": cost.flops - free,
        "kept": cost.kept,
        "fits": verdict[0] if verdict else None,
        "memory": {"peak": verdict[1]} if verdict and verdict[1] is not None else {},
    }
    return row | ({"why": why} if why else {})
