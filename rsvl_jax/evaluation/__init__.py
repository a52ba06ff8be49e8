"""Scores: pure functions on arrays, the cards that carry their protocol, and the suites."""
