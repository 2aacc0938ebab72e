"""Score models: closed forms, denoising score matching, and published diffusers checkpoints."""
