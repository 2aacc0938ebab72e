"""What ``scorefold start`` writes: how data are read, and the stages that answer a question about them."""
