"""A report on trackers: one HTML file that needs nothing else, and pictures of its plots."""
