"""Training: what a step compares, in which stages, and one loop that can be stopped and started again."""
