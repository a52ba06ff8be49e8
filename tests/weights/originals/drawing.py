"""Random weights for torch modules, and what a module makes of them, as arrays."""

import numpy as np
import torch

GRID = 1 / 64  # weights are multiples of it: exact in any float, and small when compressed


def redraw(module, *, seed=0, std=0.1, fixed=()):
    """Every parameter anew, in place: no initial zero hides a mistake. Norms' weights are near 1.

    fixed: ends of names that keep their values.
    """
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith(tuple(fixed)):
                continue
            noise = np.round(std * rng.standard_normal(tuple(value.shape)) / GRID) * GRID
            centre = float("norm" in name.lower() and name.endswith("weight"))
            value.copy_(torch.from_numpy(np.asarray(noise + centre, np.float32)))
    return module.eval()


def arrays(named):
    """{name: tensor or None} -> {name: float32 or integer array}, without those that are None."""
    found = {name: value for name, value in named.items() if value is not None}
    return {name: np.array(value.detach().numpy()) for name, value in found.items()}


def weights(module):
    """The state dict as arrays."""
    return arrays(module.state_dict())


def gradients(module):
    """Gradients by name, zero where nothing depends on a parameter; call after `backward`."""
    named = module.state_dict(keep_vars=True)  # a parameter of two names under both
    return {
        name: np.zeros(tuple(value.shape), np.float32)
        if value.grad is None
        else value.grad.numpy().copy()
        for name, value in named.items()
        if value.requires_grad
    }
