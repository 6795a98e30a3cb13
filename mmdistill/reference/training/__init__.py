"""Training of teacher, student and single-modality trackers; a run can be stopped and resumed.

- ``settings``: all settings, without PyTorch. ``trainer``: the loop, with ``train_step`` and ``checkpoint``.
- ``data_sources``, ``sampler``, ``data_loader``: from sequences to samples to batches.
- ``stages``: the tracking loss and CMD's stages; ``distillation``: the teacher, CMD's losses and the baselines.
- ``distributed``: training in several processes. ``tir_cmd``: TIR-CMD's training, on pairs without labels.
"""
