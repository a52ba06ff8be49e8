"""FLAVARS: masked modelling, image-text contrast and image-location contrast."""
