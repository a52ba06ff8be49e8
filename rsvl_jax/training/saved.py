"""What a run's checkpoints say of it, for those who use its parameters and not its data."""

from rsvl_jax.errors import UserError
from rsvl_jax.training.checkpoint import Checkpoints, Metadata


def metadata(workdir: str) -> Metadata:
    """The metadata of the newest whole checkpoint, see `resume.describe`; nothing is changed.

    Raises UserError where there is none.
    """
    checkpoints = Checkpoints(f"{workdir}/checkpoints", read_only=True)
    try:
        for step in reversed(checkpoints.steps()):
            try:
                return checkpoints._read_metadata(step)
            except Exception:  # Damaged, whatever the storage raises: an older one may be whole.
                continue
    finally:
        checkpoints.close()
    raise UserError(f"no checkpoint in {workdir!r}: train first, or give another directory")
