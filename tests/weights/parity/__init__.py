"""Our models beside the originals, live: needs torch and transformers, see `make test-parity`."""
