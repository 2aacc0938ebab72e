"""Sources of learning tasks, and tasks as tensors."""
