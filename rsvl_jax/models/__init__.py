"""Networks in Flax NNX, written tree-safe. The only folder that knows NNX; see `functional`."""
