"""Embeddings of many images or places into one file: `python -m rsvl_jax.embed`."""
