"""Weights that others wrote: read without running anything from them, recognized, renamed."""
