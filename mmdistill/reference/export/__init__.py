"""A tracker's network as ONNX files, in float32 or int8, run by onnxruntime without PyTorch.

DiMP's arithmetic is in the files: features, scores, the filter's first guess and its optimizer's step, the IoU of boxes
and its gradient. What stays outside is what has no weights: cutting and normalizing crops, the first frame's
augmentation, the memory of samples and their shares, reading the score map, and the step that moves boxes along the
gradient. ATOM's classifier has no weights either: it is learned online, and its files lack the filter's.
"""
