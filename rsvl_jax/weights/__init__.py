"""Weights in and out: other people's checkpoints into our trees, and ours into theirs."""
