"""Starts runs on pods, clusters and hosts, and starts them again after a preemption.

Nothing here imports JAX: launchers run on a laptop or a login node. See `docs/pods.md`.
"""
