"""The worker: what runs inside the environment of an isolated plugin."""
