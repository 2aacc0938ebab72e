"""Time series, cut into windows or delay vectors: from files, and made by code."""
