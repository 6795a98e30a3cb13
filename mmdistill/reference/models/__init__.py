"""The reference networks.

- ``config``: ``NetworkSettings``, and the settings of student, teacher and single-modality trackers.
- ``tracker_network``: ``TrackerNetwork``, the whole network of a tracker.
- ``resnet``: the trunks. ``teacher_fusion``: the teacher's fusion; other fusions are in ``mmdistill.fusion``.
- ``dimp_classifier``, ``atom_classifier``: target filters, learned by DiMP's optimizer or by ATOM's ``gauss_newton``.
- ``iou_net``, ``prroi_pool``: the predicted IoU of boxes. For tracking, with its gradient:
  ``pooled_iou``, of any boxes; ``windowed_iou`` and ``bin_windows``, of boxes in windows.
- ``weights``: weights files. ``folding``: batch norm for inference. ``cost``: parameters and multiply-adds.
"""
