"""The allocator of labels across the tasks of meta-learning."""
