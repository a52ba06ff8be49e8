"""Losses: keyword-only pure functions on arrays, float32 inside, each returning (sum, count).

A mean is sum / max(count, 1), taken once over the whole batch; an empty selection is (0, 0), with
zero gradients. Under `jax.jit` the arrays are global, so negatives come from every device.
"""
