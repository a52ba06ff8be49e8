"""The shared core: vision, language and location models for remote sensing, in JAX."""

__version__ = "0.1.0"
