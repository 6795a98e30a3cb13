"""The promised names, and what importing them may cost and touch."""

import subprocess
import sys

import mmdistill
import mmdistill.losses

PROMISED = {
    "ABF", "ABFChain", "BBEDistiller", "CEM", "CMDLoss", "DeadTermWarning", "FeatureTaps", "FusedPaths", "HFRDLoss",
    "MPSDFusion", "MPSDLoss", "NotFiniteError", "Pair", "SCFDLoss", "SEM", "ShapeError", "TCLDistiller", "TapError",
    "TapWarning", "Terms", "TokenLayout", "UnchangedParametersWarning", "UnusedInputWarning", "dead_terms",
    "map_to_tokens", "path_entropy", "path_selection", "gradient_norms", "tokens_to_map",
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


def test_import_is_quick_and_needs_no_reference_half() -> None:
    seconds = [float(subprocess.check_output([sys.executable, "-c", PROBE], text=True)) for _ in range(3)]
    assert min(seconds) < 0.3
