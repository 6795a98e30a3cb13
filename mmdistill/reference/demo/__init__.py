"""A small demo of the main use: a teacher, a student alone, and the same student distilled, scored side by side."""
