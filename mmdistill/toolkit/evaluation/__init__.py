"""Running trackers over benchmarks and scoring what they wrote, each benchmark by its own toolkit's rule."""
