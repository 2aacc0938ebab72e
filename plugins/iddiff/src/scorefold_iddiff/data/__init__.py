"""Data of known dimension: sets of the paper, sets of later benchmarks, and sets made of other sets."""
