"""Runs: stages computed or taken from the cache, folders, reports, and trained components applied to new data."""
