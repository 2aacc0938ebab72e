"""Plugins: found, allowed or denied, imported with care, and kept apart."""
