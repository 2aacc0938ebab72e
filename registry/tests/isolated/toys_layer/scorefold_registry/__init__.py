"""A stand-in for our package in a worker: it starts in a moment, as it needs no torch."""
