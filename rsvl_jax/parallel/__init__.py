"""Mesh and sharding rules; knows arrays and devices, not models."""
