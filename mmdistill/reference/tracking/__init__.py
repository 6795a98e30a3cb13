"""Online tracking: from frames and an initial box to boxes, for one video or several at once.

- ``tracker``: ``Tracker`` for one video; ``batch_tracker``: several at once. ``settings``: the constants of tracking.
- ``step``: a tracked frame as functions of tensors; ``state``: their state. ``frame_inputs``: what the host prepares.
- ``runners``: calls the functions, or replays them as CUDA graphs of ``cuda_graph``.
- ``search_area``, ``localization``, ``box_refinement``: from the last state to the new box.
- ``target_model``, ``augmentation``: the classifier and the first frame's samples.
"""
