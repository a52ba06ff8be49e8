"""What was read, kept and left out, by reason: nothing disappears without a number."""

from collections import Counter

_LONGEST = 60  # lines of problems kept in the summary


class Counts:
    """Skips by kind ("photo", "tile", "raster") and reason, and lines about single files."""

    def __init__(self) -> None:
        self.photos_read = 0
        self.problems: list[str] = []
        self._skips: dict[str, Counter[str]] = {}

    def read(self, photos: int) -> None:
        """Counts rows of metadata."""
        self.photos_read += photos

    def skip(self, kind: str, reason: str, number: int, line: str = "") -> None:
        """Counts `number` things that are left out, and keeps a line about one of them."""
        if number:
            self._skips.setdefault(kind, Counter())[reason] += int(number)
        if line and len(self.problems) < _LONGEST:
            self.problems.append(line)

    def skipped(self, kind: str) -> dict[str, int]:
        """Number by reason, the most frequent first."""
        found = self._skips.get(kind, Counter())
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
