"""Maps from words: how similar each pixel of a GeoTIFF of any size is to texts."""
