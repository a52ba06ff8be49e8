"""Data sets that models are scored on, read in place from the layouts that people have on disk."""
