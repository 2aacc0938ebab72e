"""The dimension from the denoising loss."""
