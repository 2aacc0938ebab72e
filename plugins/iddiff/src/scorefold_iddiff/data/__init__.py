"""Data of known dimension: the paper's sets, those of later benchmarks, and sets made of others."""
