"""RGBT234 and its predecessor RGBT210: a ground truth per modality.

Li et al., RGB-T Object Tracking: Benchmark and Baseline, Pattern Recognition 2019; Weighted Sparse Representation
Regularized Graph Learning for RGB-T Object Tracking, ACM MM 2017.
"""

from __future__ import annotations

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.attributes import file_per_attribute
from mmdistill.reference.data.benchmarks.layout import Layout, paired_folders


def _layout(benchmark: str, count: int, shared: tuple[str, ...] = ()) -> Layout:
    return Layout(
        benchmark,
        count,
        find=(
            paired_folders(
                truths=("visible.txt", "infrared.txt"),
                images=Pair(("visible",), ("infrared",)),
                init="init.txt",
                shared=shared,
            ),
        ),
        expects="<sequence>/visible.txt and infrared.txt",
        attributes=file_per_attribute("attr_txt", order="SequencesName.txt"),
        listed="SequencesName.txt",
    )


RGBT234 = _layout("rgbt234", 234)
"""``<name>/{visible,infrared}/``, ``{visible,infrared,init}.txt``; ``attr_txt/<attribute>.txt``."""

RGBT210 = _layout("rgbt210", 210, shared=("init.txt",))
"""As RGBT234; or one ground truth for both modalities in ``init.txt``, a box per frame."""
