"""A small demo of the main use: a teacher, a student alone, and the same student distilled, scored side by side.

- ``experiment``: trains, scores and times the three networks of one seed; ``DemoSettings``.
- ``report``: ``run_demo`` runs the demo and writes its files; ``report`` returns the table.
"""
