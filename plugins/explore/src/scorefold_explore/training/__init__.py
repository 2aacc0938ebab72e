"""Training from the page: the stages that a run lacks, in a process of their own that can be stopped."""
