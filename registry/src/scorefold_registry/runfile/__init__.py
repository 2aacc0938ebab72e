"""Run files: read with their positions, checked against what is installed, and planned."""
