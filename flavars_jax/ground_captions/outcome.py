"""What a start has done, counted."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from flavars_jax.ground_captions.asker import Bill, Entry
from flavars_jax.ground_captions.plan import Plan


@dataclass
class Outcome:
    """Counts of one start.

    Attributes:
      counts: lines by kind · reasons: of those that are not in the journal · rows: of the plan that
      have a line now · boxes, without_boxes: of the journal's lines · repeated: rows of an id that
      another has · dropped: in flight at the end · requests, tokens_in, tokens_out (as the server
      counts), cost: see `Bill` · seconds: from start to end · ended: why it ended before its rows
      did, None if it did not.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    boxes: int = 0
    without_boxes: int = 0
    repeated: int = 0
    dropped: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    ended: Exception | None = None

    def add(self, entry: Entry) -> None:
        """Counts a line of the journal, or of what is kept apart from it."""
        kind, line = entry
        self.counts[kind] += 1
        self.rows += "image" in line
        for name in asdict(Bill()):
            setattr(self, name, getattr(self, name) + line.get(name, 0))
        if kind == "journal":
            self.boxes += len(line["boxes"])
            self.without_boxes += not line["boxes"]
        else:
            self.reasons[f"{kind}: {line['reason']}"] += 1

    def lines(self, plan: Plan, spent: float) -> list[str]:
        """For people. spent: dollars of all starts together."""
        good, bad, failed = (self.counts[kind] for kind in ("journal", "invalid", "failed"))
        text = [
            f"{good:,} captions with {self.boxes:,} boxes ({self.without_boxes:,} without any), "
            f"{bad:,} invalid, {failed:,} failed, {plan.ask - self.rows:,} not asked, in "
            f"{self.seconds:,.0f} s"
        ]
        text += [f"  {number:,} {reason}" for reason, number in self.reasons.most_common()]
        if self.repeated:
            text.append(f"  {self.repeated:,} rows left out: another row has their id")
        used = f"{self.requests:,} requests, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if plan.cost is not None:
            used += f", ${self.cost:,.4f}; ${spent:,.4f} with earlier starts"
        return [*text, used]

    def numbers(self, plan: Plan, spent: float) -> dict[str, Any]:
        """For summary.json."""
        ended = None if self.ended is None else str(self.ended)
        more = {"ended": ended, "not_asked": plan.ask - self.rows, "spent": spent}
        return vars(self) | more | {"plan": asdict(plan)}
