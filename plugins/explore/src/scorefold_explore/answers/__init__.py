"""What the page asks: plain functions from what is open, and a few numbers, to plain data."""
