"""The command ``scorefold``."""
