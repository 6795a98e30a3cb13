"""Reports that compare trackers: a single HTML page, and image files of its plots.

``contents`` reads and scores the trackers' results, ``page`` writes the report.
"""
