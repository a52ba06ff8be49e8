"""Georeferenced images: scenes by window, the ground they cover, GeoParquet (extra `geo`)."""
