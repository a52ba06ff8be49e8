"""Every benchmark of a suite on one model, and the cards of all."""
