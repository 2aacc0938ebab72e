"""The linear model of one-step MAML, and the plans that it calls best."""
