"""Online tracking: from frames and an initial box to boxes, for one video or several at once.

- ``tracker``: ``Tracker`` for one video; ``batch_tracker``: several at once. ``settings``: the constants of tracking.
- ``search_area``, ``localization``, ``box_refinement``: from the last state to the new box.
- ``target_model``, ``augmentation``, ``memory``: the classifier and the samples it learns from.
- ``cuda_graph``: a function of tensors, replayed by one launch.
"""
