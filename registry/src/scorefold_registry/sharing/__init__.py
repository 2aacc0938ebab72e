"""Models that are shared: a stage as a folder that others load, on disk or on the Hugging Face Hub."""
