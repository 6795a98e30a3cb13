"""Tests of the guides: scripts run and learn, distillation takes few lines, quoted messages are the real ones."""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mmdistill import DeadTermWarning, FeatureTaps, HFRDLoss, Pair, SCFDLoss, TapError, TapWarning, Terms, dead_terms

pytestmark = pytest.mark.slow  # the guides train for seconds

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "docs").glob("distill_*.md"))
MAX_ADDED_LINES = 25


class Block(NamedTuple):
    """A fenced block: its info string, such as ``python raises``, and its text."""

    kind: str
    text: str


class Run(NamedTuple):
    """A block that was run, and its output, error or warnings."""

    block: Block
    output: str


class Guide(NamedTuple):
    """A guide whose blocks ran in order in one namespace."""

    blocks: list[Block]
    namespace: dict[str, Any]
    runs: list[Run]
    teacher: dict[str, Tensor]
    """The teacher's state before distillation."""


def fenced(document: Path) -> list[Block]:
    matches = re.findall(r"^```(\w+(?: \w+)?)\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(*match) for match in matches]


def lines(diff: str, signs: str) -> list[str]:
    """Return the lines of a diff with one of these signs, without the sign. An empty line belongs to both sides."""
    return [line[1:] for line in diff.splitlines() if (line[:1] or " ") in signs]


def script(diff: str, sign: str) -> str:
    """Return the script before (``-``) or after (``+``) a diff."""
    return "\n".join(lines(diff, " " + sign)) + "\n"


def run(block: Block, namespace: dict[str, Any], name: str) -> str:
    """Run a block according to its kind. Return its output, error or warnings."""
    source = script(block.text, "+") if block.kind == "diff" else block.text
    code = compile(source, name, "exec")
    printed = io.StringIO()
    with warnings.catch_warnings(record=block.kind == "python warns") as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always" if block.kind == "python warns" else "error")
        if block.kind == "python raises":
            with pytest.raises(Exception) as raised:  # noqa: PT011, the page quotes the message
                exec(code, namespace)
            return f"{raised.type.__name__}: {raised.value}"
        exec(code, namespace)
    if caught is not None:
        return "\n".join(f"{warning.category.__name__}: {warning.message}" for warning in caught)
    return printed.getvalue()


@pytest.fixture(scope="module", params=GUIDES, ids=lambda guide: guide.stem)
def guide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guide]:
    document = request.param
    blocks, runs, teacher, namespace = fenced(document), [], {}, {"__name__": document.stem}
    torch.set_num_threads(1)
    torch._dynamo.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(document.stem))
        for block in blocks:
            if block.kind == "diff":
                teacher = copy.deepcopy(namespace["teacher"].state_dict())
            if block.kind != "text":
                runs.append(Run(block, run(block, namespace, document.name)))
    yield Guide(blocks, namespace, runs, teacher)
    torch._dynamo.reset()


def normalized(text: str) -> str:
    """Return text without line breaks and fractions, which differ between a page and a run."""
    return re.sub(r"\d+\.\d+", "0.0", " ".join(text.split()))


def test_there_are_two_guides() -> None:
    assert [guide.stem for guide in GUIDES] == ["distill_a_cnn_tracker", "distill_a_vit_tracker"]


@pytest.mark.slow
def test_quoted_outputs_and_messages_are_the_real_ones(guide: Guide) -> None:
    runs = iter(guide.runs)
    last = None
    quoted = 0
    for block in guide.blocks:
        if block.kind != "text":
            last = next(runs)
            continue
        assert last is not None
        assert normalized(block.text) == normalized(last.output)
        quoted += 1
    mistakes = [run.block for run in guide.runs if run.block.kind in ("python raises", "python warns")]
    assert len(mistakes) >= 6
    assert quoted == len(mistakes) + 1  # each mistake's message, and the output of the distillation script


def test_a_diff_adds_few_lines_and_moves_one(guide: Guide) -> None:
    (diff,) = [block.text for block in guide.blocks if block.kind == "diff"]
    plain, distilled = script(diff, "-"), script(diff, "+")
    assert plain in [block.text for block in guide.blocks if block.kind == "python"]
    difference = list(difflib.ndiff(plain.splitlines(), distilled.splitlines()))
    added = [line[2:] for line in difference if line.startswith("+ ")]
    removed = [line[2:] for line in difference if line.startswith("- ")]
    assert (len(added), len(removed)) == (len(lines(diff, "+")), len(lines(diff, "-")))
    assert 10 < len(added) <= MAX_ADDED_LINES
    # The call of the tracker moves into the block of the taps.
    assert len(removed) == 1
    assert "tracker(" in removed[0]
    assert f"    {removed[0]}" in added
    assert "mmdistill" not in plain


def test_the_tracker_and_the_student_learn_and_so_does_each_term(guide: Guide) -> None:
    training = [run for run in guide.runs if "step 0: loss" in run.output]
    assert [run.block.kind for run in training] == ["python", "diff"]
    for script_run in training:
        losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", script_run.output)]
        assert losses[-1] < losses[0] / 5
    terms = [ast.literal_eval(line) for line in training[1].output.splitlines() if line.startswith("{")]
    assert terms[0].keys() == {"specific", "common", "response"}
    for name in terms[0]:
        assert terms[-1][name] < 0.95 * terms[0][name]


def test_no_hook_is_left_and_the_teacher_is_unchanged(guide: Guide) -> None:
    for name in ("tracker", "teacher"):
        network = guide.namespace[name]
        assert not any(module._forward_hooks for module in network.modules())
    after = guide.namespace["teacher"].state_dict()
    assert after.keys() == guide.teacher.keys()
    assert all(torch.equal(value, guide.teacher[name]) for name, value in after.items())


class Student(nn.Module):
    """Two layers that run and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images)).mean(dim=1)


def tapped(network: nn.Module, images: Pair[Tensor], name: str = "first") -> Pair[list[Tensor]]:
    with FeatureTaps(network, [name]) as taps:
        for modality in images:
            network(modality)
    return Pair(*([features] for features in taps.calls(name)))


@pytest.fixture
def images() -> Pair[Tensor]:
    return Pair(*torch.randn(2, 2, 3, 8, 12))


@pytest.mark.parametrize("teacher_first", [True, False])
def test_a_teacher_given_twice_is_reported_and_its_term_is_dead(images: Pair[Tensor], teacher_first: bool) -> None:
    student, teacher = Student(), Student().requires_grad_(False)
    loss = SCFDLoss((3,), (3,), interaction=("sem",))
    features = tapped(teacher, images)
    again = features if teacher_first else tapped(teacher, images)  # the same tensors, or a second run of the teacher
    with pytest.warns(DeadTermWarning) as caught:
        terms = loss(again, features)
    messages = [str(warning.message) for warning in caught]
    assert "no student input requires gradient" in messages[0]
    assert ["same tensor" in message for message in messages[1:]] == ([True] if teacher_first else [])
    assert dead_terms(terms, student.named_parameters()) == ["specific"]
    # The chain's own parameters still learn, so the total falls although the student learns nothing.
    assert dead_terms(terms, loss.named_parameters()) == []


def test_a_students_own_features_are_not_reported(images: Pair[Tensor]) -> None:
    student, teacher = Student(), Student().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        terms = SCFDLoss((3,), (3,), interaction=("sem",))(tapped(student, images), tapped(teacher, images))
    assert dead_terms(terms, student.named_parameters()) == []


def test_a_layer_that_never_runs_is_reported_twice(images: Pair[Tensor]) -> None:
    student = Student()
    with pytest.warns(TapWarning, match="never ran: 'unused'$"), FeatureTaps(student, ["first", "unused"]) as taps:
        student(images.rgb)
    assert taps.silent == ["unused"]
    assert taps["first"].shape == (2, 3, 8, 12)
    with pytest.raises(TapError, match="'unused' did not run"):
        taps["unused"]


def test_the_dead_term_of_several_is_named(images: Pair[Tensor]) -> None:
    student, teacher, label = Student(), Student().requires_grad_(False), torch.rand(2, 8, 12)
    features = SCFDLoss((3,), (3,), interaction=("sem",))(tapped(student, images), tapped(teacher, images))
    with pytest.warns(DeadTermWarning, match="HFRDLoss: no student input requires gradient"):
        scores = HFRDLoss()(student(images.rgb).detach(), teacher(images.rgb), label)
    terms = Terms.weighted((1.0, features), (1.0, scores))
    assert list(terms) == ["specific", "response"]
    assert dead_terms(terms, student.named_parameters()) == ["response"]
