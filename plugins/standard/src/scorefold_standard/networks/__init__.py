"""Networks: a residual MLP with a noise-level embedding, and diffusers' U-Net."""
