"""A plugin for tests of the host: its folder is copied to where it counts as installed."""
