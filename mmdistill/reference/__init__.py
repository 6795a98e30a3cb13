"""The reference system: RGB-T and TIR trackers of the DiMP family that use the library. Needs the ``tracker`` extra.

- ``models``: the networks, their settings and weights files.
- ``importing``: public checkpoints and ImageNet trunks.
- ``tracking``: trackers, one or many videos at a time.
- ``training``: training of teacher, student and single-modality trackers; TIR-CMD in ``training.tir_cmd``.
- ``synthetic``: synthetic RGB-T video.
- ``export``: ONNX files in float32 and int8.
- ``demo``: the whole pipeline on synthetic video, small.
- ``crops``, ``device``, ``settings_json``: crops as tensors, device selection, settings as JSON.

It imports the library and the toolkit; neither imports it.
"""
