"""ScoreVAE and ScoreVAE+: auto-encoders from a frozen score model."""
