"""Records to batches: tokenizing, masking, transforms, the input pipeline, device prefetch."""
