"""Pair collection: geotagged photos and satellite rasters become `ground_satellite_pairs`."""
