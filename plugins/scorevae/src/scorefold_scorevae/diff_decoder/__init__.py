"""A score given a code, trained from scratch."""
