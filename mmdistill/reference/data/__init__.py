"""Frames, sequences, crops, labels and samples: everything between the disk and the networks."""
