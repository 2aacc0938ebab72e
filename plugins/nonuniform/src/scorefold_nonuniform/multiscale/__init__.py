"""A network for each scale."""
