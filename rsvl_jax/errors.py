"""The errors that people meet. Mains turn each into its exit status, see `rsvl_jax.runtime`."""


class UserError(Exception):
    """Bad input: one line that quotes the offending value and says how to mend it (status 2)."""


class NonFiniteLoss(UserError):
    """A loss term became NaN or infinite and the configuration asks to stop (status 2)."""


class Preempted(Exception):
    """The run was told to stop and saved a complete checkpoint first (status 75, run again)."""
