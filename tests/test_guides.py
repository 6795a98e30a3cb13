"""The guides: their scripts run and learn, distilling takes few lines, and each message they quote is the real one."""

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

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "docs").glob("distill_*.md"))
MOST_ADDED = 25


class Block(NamedTuple):
    """A fenced block: what stands behind the fence, such as ``python raises``, and what it holds."""

    kind: str
    text: str


class Ran(NamedTuple):
    """A block that was run, and what it printed, raised or warned of."""

    block: Block
    said: str


class Guide(NamedTuple):
    """A guide after all of its blocks ran, in order and in one namespace."""

    blocks: list[Block]
    namespace: dict[str, Any]
    ran: list[Ran]
    teacher: dict[str, Tensor]
    """What the teacher held before anything was distilled."""


def fenced(document: Path) -> list[Block]:
    found = re.findall(r"^```(\w+(?: \w+)?)\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(*block) for block in found]


def lines(diff: str, signs: str) -> list[str]:
    """The lines of a diff with one of these signs, which are cut off; an empty line is one that both sides have."""
    return [line[1:] for line in diff.splitlines() if (line[:1] or " ") in signs]


def script(diff: str, sign: str) -> str:
    """What a diff changes (``-``), or what it makes of that (``+``)."""
    return "\n".join(lines(diff, " " + sign)) + "\n"


def run(block: Block, namespace: dict[str, Any], name: str) -> str:
    """Run one block as its kind says it goes, and return what a reader would see of it."""
    source = script(block.text, "+") if block.kind == "diff" else block.text
    code = compile(source, name, "exec")
    printed = io.StringIO()
    with warnings.catch_warnings(record=block.kind == "python warns") as given, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always" if block.kind == "python warns" else "error")
        if block.kind == "python raises":
            with pytest.raises(Exception) as raised:  # noqa: PT011, the message is what is asked for, word by word
                exec(code, namespace)
            return f"{raised.type.__name__}: {raised.value}"
        exec(code, namespace)
    if given is not None:
        return "\n".join(f"{warning.category.__name__}: {warning.message}" for warning in given)
    return printed.getvalue()


@pytest.fixture(scope="module", params=GUIDES, ids=lambda guide: guide.stem)
def guide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guide]:
    document = request.param
    blocks, ran, teacher, namespace = fenced(document), [], {}, {"__name__": document.stem}
    torch.set_num_threads(1)
    torch._dynamo.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(document.stem))
        for block in blocks:
            if block.kind == "diff":
                teacher = copy.deepcopy(namespace["teacher"].state_dict())
            if block.kind != "text":
                ran.append(Ran(block, run(block, namespace, document.name)))
    yield Guide(blocks, namespace, ran, teacher)
    torch._dynamo.reset()


def normalized(text: str) -> str:
    """Line breaks and the fractions of numbers differ between a page and a run."""
    return re.sub(r"\d+\.\d+", "0.0", " ".join(text.split()))


def test_there_are_two_guides() -> None:
    assert [guide.stem for guide in GUIDES] == ["distill_a_cnn_tracker", "distill_a_vit_tracker"]


def test_quoted_outputs_and_messages_are_the_real_ones(guide: Guide) -> None:
    said = iter(guide.ran)
    last = None
    quoted = 0
    for block in guide.blocks:
        if block.kind != "text":
            last = next(said)
            continue
        assert last is not None
        assert normalized(block.text) == normalized(last.said)
        quoted += 1
    mistakes = [ran.block for ran in guide.ran if ran.block.kind in ("python raises", "python warns")]
    assert len(mistakes) >= 6
    assert quoted == len(mistakes) + 1  # each mistake's message, and what the distilling script prints


def test_a_diff_adds_few_lines_and_moves_one(guide: Guide) -> None:
    (diff,) = [block.text for block in guide.blocks if block.kind == "diff"]
    plain, distilling = script(diff, "-"), script(diff, "+")
    assert plain in [block.text for block in guide.blocks if block.kind == "python"]
    difference = list(difflib.ndiff(plain.splitlines(), distilling.splitlines()))
    added = [line[2:] for line in difference if line.startswith("+ ")]
    removed = [line[2:] for line in difference if line.startswith("- ")]
    assert (len(added), len(removed)) == (len(lines(diff, "+")), len(lines(diff, "-")))
    assert 10 < len(added) <= MOST_ADDED
    # The call of the tracker goes inside the taps' block, indented and else as it was.
    assert len(removed) == 1
    assert "tracker(" in removed[0]
    assert f"    {removed[0]}" in added
    assert "mmdistill" not in plain


def test_the_tracker_and_the_student_learn_and_so_does_each_term(guide: Guide) -> None:
    trained = [ran for ran in guide.ran if "step 0: loss" in ran.said]
    assert [ran.block.kind for ran in trained] == ["python", "diff"]
    for ran in trained:
        losses = [float(loss) for loss in re.findall(r"loss (\d\.\d+)", ran.said)]
        assert losses[-1] < losses[0] / 5
    terms = [ast.literal_eval(line) for line in trained[1].said.splitlines() if line.startswith("{")]
    assert terms[0].keys() == {"specific", "common", "response"}
    for name in terms[0]:
        assert terms[-1][name] < 0.95 * terms[0][name]


def test_no_hook_is_left_and_the_teacher_is_as_it_was(guide: Guide) -> None:
    for name in ("tracker", "teacher"):
        network = guide.namespace[name]
        assert not any(module._forward_hooks for module in network.modules())
    now = guide.namespace["teacher"].state_dict()
    assert now.keys() == guide.teacher.keys()
    assert all(torch.equal(value, guide.teacher[name]) for name, value in now.items())


class Student(nn.Module):
    """Two layers that run, and one that does not."""

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
    again = features if teacher_first else tapped(teacher, images)  # the very tensors, or another run of the teacher
    with pytest.warns(DeadTermWarning) as given:
        terms = loss(again, features)
    said = [str(warning.message) for warning in given]
    assert "no student input requires gradient" in said[0]
    assert ["same tensor" in message for message in said[1:]] == ([True] if teacher_first else [])
    assert dead_terms(terms, student.named_parameters()) == ["specific"]
    # It is not the warning alone that tells: the chain's own parameters learn, the total falls, nothing is taught.
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


def test_of_several_terms_the_dead_one_is_named(images: Pair[Tensor]) -> None:
    student, teacher, label = Student(), Student().requires_grad_(False), torch.rand(2, 8, 12)
    features = SCFDLoss((3,), (3,), interaction=("sem",))(tapped(student, images), tapped(teacher, images))
    with pytest.warns(DeadTermWarning, match="HFRDLoss: no student input requires gradient"):
        scores = HFRDLoss()(student(images.rgb).detach(), teacher(images.rgb), label)
    terms = Terms.weighted((1.0, features), (1.0, scores))
    assert list(terms) == ["specific", "response"]
    assert dead_terms(terms, student.named_parameters()) == ["response"]
