"""Many runs with some fields set: compare, sweep and reproduce."""
