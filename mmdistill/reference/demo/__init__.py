"""The main job, small: a teacher, a student alone and the same student distilled, scored side by side."""
