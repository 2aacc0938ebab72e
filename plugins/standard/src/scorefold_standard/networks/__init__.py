"""Networks: a residual MLP with a noise-level embedding, U-Nets of images and signals, and dilated convolutions."""
