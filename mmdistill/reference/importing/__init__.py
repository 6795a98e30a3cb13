"""Import of public weights, without running anything from their files.

- ``published``: networks of public DiMP and ATOM checkpoints, and trunks of ResNets and trackers.
- ``weights_file``: the tensors of a PyTorch, NumPy or safetensors file, by name.
- ``torch_file``, ``pickles``: files of ``torch.save``, and pickles read as data.
- ``training_record``: a checkpoint's identity and sizes.
"""

from mmdistill.reference.importing.published import TrunkWeights, load_trunks, published_network, read_trunk
from mmdistill.reference.importing.weights_file import WeightsFile, read_weights_file

__all__ = ["TrunkWeights", "WeightsFile", "load_trunks", "published_network", "read_trunk", "read_weights_file"]
