"""GRAFT: a satellite encoder aligned to a frozen image tower through co-located ground photos."""
