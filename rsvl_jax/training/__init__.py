"""One loop, one step and one checkpoint code for every method."""
