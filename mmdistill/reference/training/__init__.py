"""Training: samples, losses, stages, and the loop that can be stopped and resumed."""
