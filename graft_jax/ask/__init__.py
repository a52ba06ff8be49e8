"""Questions about an image, answered by programs over the model's similarity maps."""
