"""Search by words: an index of tile embeddings, ranked galleries, and density maps."""
