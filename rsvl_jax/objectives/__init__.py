"""Loss terms that the methods share: image-text contrast, masked autoencoding, weights."""
