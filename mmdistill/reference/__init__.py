"""The reference system: DiMP-based RGB-T and TIR trackers that prove the library.

It imports the library; the library never imports it. Needs the ``tracker`` extra.
"""
