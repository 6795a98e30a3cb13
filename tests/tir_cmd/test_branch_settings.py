import dataclasses
import json

import pytest
import torch
from torch import nn

from mmdistill import BBEDistiller, TCLDistiller, Terms
from mmdistill.tir_cmd import SETTINGS, BranchSetting

# Table 1 as printed: modules to be updated, reference branch, test branch.
TABLE = """
A1 None RGB RGB
B1 BBE TIR(ft) RGB
B2 BBE RGB TIR(ft)
B3 BBE TIR TIR
C1 TCL TIR(ft) RGB
D1 BBE+TCL RGB TIR(ft)
D2 BBE+TCL TIR(ft) RGB
D3 BBE+TCL RGB-TIR(ft) TIR-RGB(ft)
D4 BBE+TCL RGB-TIR(ft) TIR-RGB(ft)
D5 BBE+TCL RGB-TIR(ft) TIR-RGB(ft)
"""


def printed(row: BranchSetting) -> str:
    seen = [
        getattr(row, branch).upper() + ("(ft)" if branch in row.fine_tuned else "") for branch in ("reference", "test")
    ]
    return " ".join([row.name, "+".join(row.updated).upper() or "None", *seen])


def test_the_rows_are_table_one() -> None:
    assert [printed(row) for row in SETTINGS.values()] == TABLE.split("\n")[1:-1]
    assert [row.name for row in SETTINGS.values()] == list(SETTINGS)


def test_learning_rates_are_the_papers() -> None:
    for name, row in SETTINGS.items():
        rates = row.learning_rates
        expected = {"B": (1e-6, None), "C": (None, 1e-6), "D": (1e-7, 2e-8)}.get(name[0], (None, None))
        assert (rates.bbe, rates.tcl) == (expected if row.trained else (None, None))


def test_each_row_begins_where_the_paper_says() -> None:
    assert SETTINGS["A1"].initial_weights is None
    for name in ("B1", "B2", "C1"):
        assert set(dataclasses.astuple(SETTINGS[name].initial_weights)) == {"A1"}  # type: ignore[arg-type]
    assert dataclasses.astuple(SETTINGS["B3"].initial_weights) == ("B1", "B2", "A1", "A1")  # type: ignore[arg-type]
    for name in ("D1", "D2", "D3", "D4", "D5"):
        assert dataclasses.astuple(SETTINGS[name].initial_weights) == ("B3", "B3", "C1", "C1")  # type: ignore[arg-type]


def test_no_row_needs_a_later_one() -> None:
    done: list[str] = []
    for name, row in SETTINGS.items():
        assert row.initial_weights is None or set(dataclasses.astuple(row.initial_weights)) <= set(done)
        done.append(name)


def test_one_branch_teaches_where_the_other_learns() -> None:
    teachers = {name: row.teacher for name, row in SETTINGS.items()}
    taught_by = {"B1": "test", "B2": "reference", "C1": "test", "D1": "reference", "D2": "test"}
    assert teachers == {**dict.fromkeys(SETTINGS), **taught_by}
    for row in SETTINGS.values():
        assert row.teacher is None or getattr(row, row.teacher) == "rgb"


def test_patches_are_the_papers() -> None:
    patches = {name: row.patches for name, row in SETTINGS.items()}
    assert patches == {
        "A1": None,
        **dict.fromkeys(("B1", "B2", "B3", "C1", "D1", "D2", "D3"), "center"),
        "D4": "random",
        "D5": "detection",
    }


def test_rows_are_data() -> None:
    assert len(set(SETTINGS.values())) == len(SETTINGS) == 10
    for row in SETTINGS.values():
        written = json.loads(json.dumps(dataclasses.asdict(row)))
        assert written["learning_rates"]["bbe"] == row.learning_rates.bbe
        assert tuple(written["fine_tuned"]) == row.fine_tuned
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.test = "rgb"  # type: ignore[misc]
    with pytest.raises(TypeError):
        SETTINGS["E1"] = SETTINGS["A1"]  # type: ignore[index]


class TwoBranches(nn.Module):
    """A tracker with parts of its own for each module and branch; the predictor is the test branch's."""

    def __init__(self) -> None:
        super().__init__()
        names = [f"{module}_{branch}" for module in ("tcl", "bbe") for branch in ("reference", "test")]
        self.parts = nn.ModuleDict({name: nn.Conv2d(3, 4, 3, padding=1) for name in names})
        self.predictor = nn.Linear(4, 1)

    def predict(self, modulation: torch.Tensor, features: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
        seen = (modulation * features).mean(dim=(2, 3))[:, None] + proposals / 10
        overlaps: torch.Tensor = self.predictor(seen).squeeze(-1)
        return overlaps

    def terms(self, module: str, row: BranchSetting) -> Terms:
        reference, test = (
            self.parts[f"{module}_{branch}"](torch.randn(2, 3, 6, 6)) for branch in ("reference", "test")
        )
        if module == "tcl":
            iterates = [reference[..., :3, :3], 0.5 * reference[..., :3, :3]]
            located: Terms = TCLDistiller(detach=row.teacher)(iterates, test[None], torch.rand(1, 2, 6, 6))
            return located
        box = torch.tensor([[1.0, 1.0, 3.0, 3.0]]).expand(2, 4)
        proposals = box[:, None] + torch.rand(2, 5, 4)
        distiller = BBEDistiller(self.predict, scale="signed", detach=row.teacher)
        estimated: Terms = distiller(reference.mean(dim=(2, 3), keepdim=True), test, proposals, box)
        return estimated


@pytest.mark.parametrize("name", SETTINGS)
def test_the_teacher_of_a_row_is_what_both_distillers_detach(name: str) -> None:
    """The gradient reaches the fine-tuned branches and no other."""
    torch.manual_seed(0)
    row, tracker = SETTINGS[name], TwoBranches()
    # Detaching leaves the predictor, of the test branch, as its owner has it.
    tracker.predictor.requires_grad_("test" in row.fine_tuned)
    for module in ("bbe", "tcl"):
        tracker.zero_grad()
        tracker.terms(module, row).total.backward()
        reached = {part for part, layer in tracker.parts.items() if layer.weight.grad is not None}
        # What needs no training has no teacher: nothing is detached, and nothing calls backward.
        learning = row.fine_tuned if row.trained else ("reference", "test")
        assert reached == {f"{module}_{branch}" for branch in learning}
        learns = tracker.predictor.weight.grad is not None
        assert learns == (module == "bbe" and "test" in row.fine_tuned)
