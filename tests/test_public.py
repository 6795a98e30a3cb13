"""The promised names, and what importing them may cost and touch."""

import inspect
import re
import subprocess
import sys

import mmdistill
import mmdistill.fusion
import mmdistill.losses
import mmdistill.tir_cmd

PROMISED = {
    "ABF", "ABFChain", "BBEDistiller", "CEM", "CMDLoss", "DeadTermWarning", "FeatureTaps", "FusedPaths", "HFRDLoss",
    "MPSDFusion", "MPSDLoss", "NotFiniteError", "Pair", "SCFDLoss", "SEM", "ShapeError", "TCLDistiller", "TapError",
    "TapWarning", "Terms", "TokenLayout", "UnchangedParametersWarning", "UnusedInputWarning", "dead_terms",
    "map_to_tokens", "path_entropy", "path_selection", "gradient_norms", "gradient_shares", "tokens_to_map",
}  # fmt: skip

# Run in a process of its own: nothing but what `import mmdistill` itself brings in is there to be seen.
PROBE = """
import sys, time
import torch, numpy
extras = {"cv2", "safetensors", "tqdm", "matplotlib", "tyro"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in extras or name.startswith(("mmdistill.reference", "mmdistill.toolkit")):
            raise ImportError(f"the library half imported {name}")
sys.meta_path.insert(0, Refuse())
start = time.perf_counter()
import mmdistill
[getattr(mmdistill, name) for name in mmdistill.__all__]
print(time.perf_counter() - start)
"""


def test_public_names_are_exactly_the_promised_ones() -> None:
    assert set(mmdistill.__all__) == PROMISED
    assert all(hasattr(mmdistill, name) for name in PROMISED)


def test_every_public_name_is_documented_with_an_example_where_it_is_called() -> None:
    for name in PROMISED - {
        "Pair",
        "FusedPaths",
        "Terms",
        "ShapeError",
        "NotFiniteError",
        "DeadTermWarning",
        "TapError",
        "TapWarning",
        "UnchangedParametersWarning",
        "UnusedInputWarning",
    }:
        assert ">>> " in (getattr(mmdistill, name).__doc__ or ""), name


SOURCE = re.compile(r"https://(doi\.org/10|arxiv\.org/abs|openaccess\.thecvf\.com)[^\s]+")
NO_SOURCE = {
    "FeatureTaps", "FusedPaths", "InitialWeights", "LearningRates", "Pair", "PathSelection", "Patches",
    "SaliencyDetector", "Terms", "TokenLayout", "TorchvisionDetector",
}  # fmt: skip
"""Classes that implement no published method: containers, protocols and tools."""


def test_every_loss_block_and_sampler_links_its_paper() -> None:
    modules = (mmdistill, mmdistill.losses, mmdistill.fusion, mmdistill.tir_cmd)
    public = {name: getattr(module, name) for module in modules for name in module.__all__}
    classes = {
        name: value for name, value in public.items() if inspect.isclass(value) and not issubclass(value, Exception)
    }
    assert {name for name, value in classes.items() if not SOURCE.search(value.__doc__ or "")} == NO_SOURCE


def test_import_is_quick_and_needs_no_reference_half() -> None:
    seconds = [float(subprocess.check_output([sys.executable, "-c", PROBE], text=True)) for _ in range(2)]
    assert min(seconds) < 0.3
