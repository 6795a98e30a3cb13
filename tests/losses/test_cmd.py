import copy
import warnings

import pytest
import torch
from helpers import pyramids
from torch import nn

from mmdistill import CMDLoss, HFRDLoss, MPSDFusion, MPSDLoss, Pair, SCFDLoss, UnusedInputWarning
from mmdistill.losses import KDLoss

STUDENT, TEACHER = (2, 3, 4, 5), (3, 4, 5, 6)


def everything() -> tuple[CMDLoss, dict[str, object]]:
    loss = CMDLoss(SCFDLoss(STUDENT, TEACHER), MPSDLoss(STUDENT[2:], TEACHER[2:]), HFRDLoss())
    student, teacher = pyramids(STUDENT), pyramids(TEACHER)
    blocks = [MPSDFusion(channels) for channels in STUDENT[2:]]
    inputs: dict[str, object] = {
        "student_features": student,
        "teacher_features": teacher,
        "student_fused": [b(Pair(student.rgb[i], student.tir[i])) for i, b in enumerate(blocks, start=2)],
        "teacher_fused": teacher.rgb[2:],
        "student_response": torch.rand(2, 19, 19),
        "teacher_response": torch.rand(2, 19, 19),
        "gaussian": torch.rand(2, 19, 19),
    }
    return loss.eval(), inputs


def test_total_is_equation_fourteen() -> None:
    loss, inputs = everything()
    terms = loss(**inputs)
    assert list(terms) == ["specific", "common", "fusion", "penalty", "response"]
    features = sum(terms[name] for name in ("specific", "common", "fusion", "penalty"))
    torch.testing.assert_close(terms.total, 1e-3 * features + 100 * terms["response"])


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (("scfd",), ["specific", "common"]),
        (("mpsd",), ["fusion", "penalty"]),
        (("hfrd",), ["response"]),
        (("scfd", "mpsd"), ["specific", "common", "fusion", "penalty"]),
    ],
)
def test_parts_left_out_need_no_inputs(parts: tuple[str, ...], names: list[str]) -> None:
    whole, inputs = everything()
    needed = {
        "scfd": ("student_features", "teacher_features"),
        "mpsd": ("student_fused", "teacher_fused"),
        "hfrd": ("student_response", "teacher_response", "gaussian"),
    }
    loss = CMDLoss(**{part: getattr(whole, part) for part in parts}, alpha=2.0, beta=3.0)
    assert list(loss(**{name: inputs[name] for part in parts for name in needed[part]})) == names


def test_inputs_of_a_part_left_out_are_not_used_which_is_said_once() -> None:
    whole, inputs = everything()
    loss = CMDLoss(hfrd=whole.hfrd)
    with pytest.warns(UnusedInputWarning) as given:
        terms = loss(**inputs)
    given = [each for each in given if each.category is UnusedInputWarning]
    assert [str(each.message).partition(":")[2] for each in given] == [
        " student_features, teacher_features: not used, because scfd is None",
        " student_fused, teacher_fused: not used, because mpsd is None",
    ]
    assert all(each.filename == __file__ for each in given)
    torch.testing.assert_close(terms.total, 100 * whole(**inputs)["response"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnusedInputWarning)
        loss(**inputs)
        CMDLoss(hfrd=HFRDLoss())(
            **{name: inputs[name] for name in ("student_response", "teacher_response", "gaussian")}
        )
    with pytest.warns(UnusedInputWarning, match="CMDLoss: gaussian: .* hfrd is None"):
        CMDLoss(whole.scfd, whole.mpsd)(**{**inputs, "student_response": None, "teacher_response": None})


@pytest.mark.filterwarnings("ignore")  # PyTorch's own of torch.compile
def test_swapped_parts_are_refused_by_name() -> None:
    loss, _ = everything()
    scfd, mpsd, hfrd = loss.scfd, loss.mpsd, loss.hfrd
    for given, message in (
        ({"scfd": hfrd, "mpsd": scfd}, "scfd: expected SCFDLoss or .* got HFRDLoss"),
        ({"scfd": scfd, "mpsd": hfrd}, "mpsd: expected MPSDLoss or .* got HFRDLoss"),
        ({"hfrd": mpsd}, "hfrd: expected HFRDLoss or .* got MPSDLoss"),
        ({"hfrd": KDLoss()}, "hfrd: expected HFRDLoss or .* got KDLoss"),
        ({"scfd": loss}, "scfd: expected SCFDLoss or .* got CMDLoss"),
        ({"scfd": torch.compile(hfrd, backend="eager")}, "scfd: expected SCFDLoss or .* got HFRDLoss"),
        ({"scfd": nn.DataParallel(hfrd)}, "scfd: expected SCFDLoss or .* got HFRDLoss"),
        ({"hfrd": 3}, "hfrd: expected a module, or None, got 3"),
    ):
        with pytest.raises(ValueError, match=f"CMDLoss: {message}"):
            CMDLoss(**given)


class Focused(HFRDLoss):
    """A loss of one's own that is one of these."""


class Wrapped(nn.Module):
    """A wrapper of one's own."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.module = part

    def forward(self, *inputs: object) -> object:
        return self.module(*inputs)


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore")
def test_parts_that_are_derived_wrapped_or_ones_own_are_taken() -> None:
    whole, inputs = everything()
    expected = whole(**inputs).as_dict()
    derived = CMDLoss(
        nn.parallel.DistributedDataParallel(whole.scfd), torch.compile(whole.mpsd, backend="eager"), Focused()
    )
    for loss in (derived, CMDLoss(Wrapped(whole.scfd), Wrapped(whole.mpsd), Wrapped(whole.hfrd))):
        torch.testing.assert_close(loss.eval()(**inputs).as_dict(), expected)


def test_what_is_missing_is_named() -> None:
    loss, inputs = everything()
    del inputs["teacher_fused"]
    with pytest.raises(ValueError, match="teacher_fused: expected an input for mpsd, got None"):
        loss(**inputs)
    with pytest.raises(ValueError, match="expected at least one of scfd, mpsd, hfrd"):
        CMDLoss()


def test_parameters_of_the_parts_are_registered_and_survive_a_round_trip() -> None:
    loss, inputs = everything()
    assert any(name.startswith("scfd.chains.rgb") for name, _ in loss.named_parameters())
    assert any(name.startswith("mpsd.adaptors") for name, _ in loss.named_parameters())
    other = copy.deepcopy(loss)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(other(**inputs).total, loss(**inputs).total)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_fully_compiled_step_gives_the_same_terms() -> None:
    loss, inputs = everything()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(dict(compiled(**inputs)), dict(loss(**inputs)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_terms_are_finite_under_autocast(dtype: torch.dtype, scale: float) -> None:
    loss = CMDLoss(SCFDLoss(STUDENT, TEACHER), hfrd=HFRDLoss())
    student, teacher = (
        Pair([x * scale for x in pair.rgb], [x * scale for x in pair.tir])
        for pair in (pyramids(STUDENT), pyramids(TEACHER))
    )
    response = torch.rand(2, 19, 19)
    with torch.autocast("cpu", dtype=dtype):
        terms = loss(
            student_features=student,
            teacher_features=teacher,
            student_response=response,
            teacher_response=response,
            gaussian=response,
        )
    assert all(value.isfinite() and value.dtype == torch.float32 for value in [*terms.values(), terms.total])
