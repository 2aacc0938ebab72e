"""The best labels a task of a black box, found by trying."""
