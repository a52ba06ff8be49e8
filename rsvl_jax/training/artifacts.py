"""Small files that process 0 leaves beside the checkpoints of a run, whole or not at all."""

import gzip
import os

import jax

from rsvl_jax.storage import replace_file
from rsvl_jax.training.checkpoint import disk_errors


def write(workdir: str, name: str, content: bytes) -> str:
    """Writes a file of the work directory, and returns its path; elsewhere than on process 0, only
    returns it. Raises UserError where the disk is full or read-only."""
    path = os.path.join(workdir, name)
    if jax.process_index() == 0:
        with disk_errors(path), replace_file(path) as file:
            file.write(content)
    return path


class Programs:
    """Keeps what a run compiles: step.stablehlo.gz, then step-2.stablehlo.gz for another shape of
    batches, and so on."""

    def __init__(self, workdir: str) -> None:
        self._workdir, self._count = workdir, 0

    def __call__(self, lowered: jax.stages.Lowered) -> None:
        """Writes a program before it is compiled, as the text of StableHLO."""
        self._count += 1
        name = "step" if self._count == 1 else f"step-{self._count}"
        if jax.process_index() == 0:
            # Without the time, the same program is the same file.
            content = gzip.compress(lowered.as_text().encode(), compresslevel=6, mtime=0)
            write(self._workdir, f"{name}.stablehlo.gz", content)
