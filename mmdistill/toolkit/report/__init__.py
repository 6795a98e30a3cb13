"""Reports that compare trackers: a single HTML page, and image files of its plots.

- ``contents`` reads and scores the trackers' results. ``page`` writes the report.
- ``overview``, ``curves``, ``pairs``, ``closeups``: the sections. ``comparisons``: the figures of two trackers.
- ``markup``: HTML and SVG. ``page.css`` and ``page.js``: style and script.
"""
