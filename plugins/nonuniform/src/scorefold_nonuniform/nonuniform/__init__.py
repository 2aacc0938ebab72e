"""One network for bands that diffuse each at its own speed."""
