"""Image-text pairs of any origin, built from downloads: `reader` says what a source is."""
