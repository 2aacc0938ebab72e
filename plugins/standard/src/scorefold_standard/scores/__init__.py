"""Score models: closed forms, and denoising score matching."""
