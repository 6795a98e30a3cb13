"""The losses: tensors in, terms out. They own no network, move no device and log nothing."""

from mmdistill.losses.cmd import CMDLoss
from mmdistill.losses.hfrd import HFRDLoss
from mmdistill.losses.mpsd import MPSDLoss
from mmdistill.losses.scfd import SCFDLoss

__all__ = ["CMDLoss", "HFRDLoss", "MPSDLoss", "SCFDLoss"]
