"""TIR-CMD's training: fine-tunes a TIR tracker on unlabeled RGB-TIR pairs.

- ``runs``: ``SettingRuns`` trains a setting of Table 1, and first the settings it starts from.
- ``samples``: patches of pairs as training samples. ``stage``: the losses on both branches.
- ``settings``: weights of the loss and schedules, without PyTorch.
"""
