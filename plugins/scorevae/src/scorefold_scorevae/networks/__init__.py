"""Networks between images and vectors."""
