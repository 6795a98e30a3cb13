"""The toolkit: sequences, data sets, video, evaluation and reports, for the results of any tracker.

It needs NumPy, OpenCV, PyAV and Matplotlib, and no PyTorch. Install it with the ``tracker`` extra.
"""
