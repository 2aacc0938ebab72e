"""Plugins in environments of their own: declared in ``scorefold.toml``, installed once, and called in a worker."""
