"""The papers' claims in small: runs of equal budget on the embedded data, and a page about them."""
