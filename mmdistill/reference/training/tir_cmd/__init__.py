"""TIR-CMD's training: fine-tunes a TIR tracker on unlabeled RGB-TIR pairs.

- ``runs``: ``SettingRuns`` trains a setting of Table 1, and first the settings it starts from.
- ``samples``: patches of pairs as training samples. ``stage``: the losses on both branches.

The schedules and the weights of the loss are in ``mmdistill.reference.training.settings``.
"""
