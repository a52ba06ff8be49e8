"""What became of each array: told in full, as what is dropped in silence is found out too late."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from rsvl_jax.weights.names import Shape

Named = Mapping[str, Shape]


@dataclass
class Account:
    """Names and shapes. left: of ours, which the source lacks; unused: of theirs, which the model
    has no place for; ignored: of theirs, known to hold nothing; remarks: one line each."""

    loaded: Named = field(default_factory=dict)
    left: Named = field(default_factory=dict)
    unused: Named = field(default_factory=dict)
    ignored: Named = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def lines(self, *, left: str = "left out") -> list[str]:
        """The account, a line an array; left: what becomes of those that the source lacks."""
        numbers = sum(int(np.prod(shape, dtype=np.int64)) for shape in self.loaded.values())
        lines = [f"loaded: {len(self.loaded)} arrays, {numbers:,} numbers"]
        lines += _each(self.loaded)
        for title, named in ((left, self.left), ("unused", self.unused)):
            lines += [f"{title}: {len(named)} arrays"] + _each(named)
        if self.ignored:
            lines.append(f"without weights in them: {', '.join(self.ignored)}")
        return lines + [f"note: {remark}" for remark in self.remarks]


def _each(named: Named) -> list[str]:
    return [f"  {name} {shape_text(shape)}" for name, shape in named.items()]


def shape_text(shape: Shape) -> str:
    """[12, 768], or "scalar"."""
    return str(list(shape)) if shape else "scalar"


def few(names: Iterable[str], count: int = 5) -> str:
    """The first names, and whether there are more."""
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" * (len(names) > count))
