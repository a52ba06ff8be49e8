"""Zoom pairs, not ground photos: coarse tiles of the Earth with fine views of the same ground."""
