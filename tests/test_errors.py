import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers import pyramids
from torch import nn

from mmdistill import (
    BBEDistiller,
    CMDLoss,
    DeadTermWarning,
    HFRDLoss,
    MPSDFusion,
    MPSDLoss,
    NotFiniteError,
    Pair,
    SCFDLoss,
    ShapeError,
    TCLDistiller,
)
from mmdistill._checks.values import check_inputs, synchronized_batch_norm
from mmdistill.losses import FitNetsLoss, KDLoss, ReviewKDLoss


def test_a_student_without_gradient_is_reported() -> None:
    with pytest.warns(DeadTermWarning, match="HFRDLoss: no student input requires gradient") as caught:
        HFRDLoss()(*torch.rand(3, 2, 5, 5))
    assert caught[0].filename == __file__


def test_a_part_and_a_wrapped_loss_warn_at_the_users_line() -> None:
    response, label = torch.rand(2, 5, 5), torch.rand(2, 5, 5)
    given = {"student_response": response, "teacher_response": label, "gaussian": label + 1}
    cmd = CMDLoss(hfrd=HFRDLoss())
    for loss in (cmd, nn.DataParallel(cmd), torch.optim.swa_utils.AveragedModel(cmd)):
        with pytest.warns(DeadTermWarning, match="HFRDLoss: no student input requires gradient") as caught:
            loss(**given)
        assert caught[0].filename == __file__


def test_the_teacher_given_twice_is_reported() -> None:
    teacher = pyramids((3, 4), requires_grad=True)
    with pytest.warns(DeadTermWarning, match="SCFDLoss: the student and the teacher are the same tensor"):
        SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))(teacher, teacher)
    fused = MPSDFusion(3)(Pair(teacher.rgb[0], teacher.tir[0]))
    with pytest.warns(DeadTermWarning, match="MPSDLoss: the student and the teacher are the same tensor"):
        MPSDLoss((3,), (3,))([fused], [fused.fused.detach()])


def test_a_living_loss_and_a_validation_say_nothing() -> None:
    student, teacher = pyramids((3, 4), requires_grad=True), pyramids((3, 4))
    loss = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(student, teacher)
        with torch.no_grad():
            loss(teacher, teacher)


def test_one_call_taken_for_both_modalities_is_reported() -> None:
    student, teacher = pyramids((3, 4), requires_grad=True), pyramids((3, 4))
    loss = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))
    with pytest.warns(DeadTermWarning, match="SCFDLoss: student: RGB and TIR are the same tensor"):
        loss(Pair(student.tir, student.tir), teacher)
    with pytest.warns(DeadTermWarning, match="SCFDLoss: teacher: RGB and TIR are the same tensor"):
        loss(student, Pair(teacher.rgb, teacher.rgb))


def test_finite_inputs_pass_though_their_sum_overflows() -> None:
    large = torch.full((4, 5, 5), 1e38)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not HFRDLoss()(large.clone().requires_grad_(), large, large).total.isfinite()


def dead(name: str, call: Callable[[], object]) -> None:
    with pytest.warns(DeadTermWarning, match=f"{name}: 0 everywhere") as caught:
        call()
    assert caught[0].filename == __file__


def test_a_teacher_of_zeros_is_reported() -> None:
    response, label = torch.rand(2, 5, 5, requires_grad=True), torch.rand(2, 5, 5)
    dead("HFRDLoss: teacher_response", lambda: HFRDLoss()(response, torch.zeros(2, 5, 5), label))
    dead("KDLoss: teacher", lambda: KDLoss(over="response")(response, torch.zeros(2, 5, 5)))
    student, teacher = pyramids((3, 4), requires_grad=True), pyramids((3, 4))
    teacher.tir[1].zero_()
    scfd = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))
    dead("SCFDLoss: teacher tir level 2", lambda: scfd(student, teacher))
    review, fitnets = ReviewKDLoss((3, 4), (3, 4)), FitNetsLoss((3, 4), (3, 4))
    dead("ReviewKDLoss: teacher level 2", lambda: review(student.rgb, teacher.tir))
    dead("FitNetsLoss: teacher level 2", lambda: fitnets(student.rgb, teacher.tir))
    fused, mpsd = MPSDFusion(3)(Pair(student.rgb[0], student.tir[0])), MPSDLoss((3,), (3,))
    dead("MPSDLoss: teacher fused level 1", lambda: mpsd([fused], [torch.zeros(2, 3, 16, 24)]))


def test_a_label_and_a_detached_branch_of_zeros_are_reported() -> None:
    filters, features = torch.rand(2, 1, 3, 1, 1, requires_grad=True), torch.rand(1, 1, 3, 5, 5, requires_grad=True)
    label = torch.rand(1, 1, 5, 5)
    dead("TCLDistiller: label", lambda: TCLDistiller()(filters, features, torch.zeros_like(label)))
    reference, test = TCLDistiller(detach="reference"), TCLDistiller(detach="test")
    dead("TCLDistiller: filters", lambda: reference(torch.zeros_like(filters), features, label))
    dead("TCLDistiller: features", lambda: test(filters, torch.zeros_like(features), label))

    def predictor(modulation: list[torch.Tensor], maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return (sum(modulation) * maps.mean(dim=(2, 3))).mean(dim=1, keepdim=True) * boxes[..., 2]

    def bbe(detach: Any, modulation: list[torch.Tensor], maps: torch.Tensor) -> object:
        boxes = torch.rand(1, 2, 4) + 1
        return BBEDistiller(predictor, scale="unit", detach=detach)(modulation, maps, boxes, boxes[:, 0])

    parts, maps = [torch.rand(1, 3, requires_grad=True), torch.zeros(1, 3)], features[0]
    dead("BBEDistiller: modulation part 2", lambda: bbe("reference", parts, maps))
    dead("BBEDistiller: features", lambda: bbe("test", parts, torch.zeros_like(maps)))
    with warnings.catch_warnings():  # the side that learns may be zero
        warnings.simplefilter("error")
        bbe(None, parts, maps)
        reference(filters, torch.zeros_like(features).requires_grad_(), label)
        test(torch.zeros_like(filters).requires_grad_(), features, label)


def test_zeros_of_the_student_or_the_label_and_sums_of_zero_say_nothing() -> None:
    response, label = torch.rand(2, 5, 5, requires_grad=True), torch.zeros(2, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HFRDLoss()(response, torch.rand(2, 5, 5), label)
        HFRDLoss()(torch.zeros(2, 5, 5, requires_grad=True), torch.rand(2, 5, 5), label)
        KDLoss()(response, torch.tensor([-1.0, 1.0, 0.0, 2.0, -2.0]).expand(2, 5, 5))
        HFRDLoss(check_values=False)(response, label.clone(), label)
        with torch.no_grad():
            KDLoss()(response, torch.zeros(2, 5, 5))


def test_the_values_of_all_inputs_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read makes the host wait for the GPU."""
    reads: list[str] = []

    def counted(name: str) -> None:
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *args: (reads.append(name), original(tensor, *args))[1])

    for name in ("tolist", "item", "__bool__", "__float__", "__int__"):
        counted(name)
    loss = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))
    loss(pyramids((3, 4), requires_grad=True), pyramids((3, 4)))
    assert reads == ["tolist"]


@pytest.mark.parametrize("loss", ["SCFDLoss", "ReviewKDLoss"])
@pytest.mark.parametrize("sampling", [1.0, 0.25])
def test_one_value_per_channel_in_training_is_refused_by_the_losses_name(loss: str, sampling: float) -> None:
    student, teacher = pyramids((3, 4), (2, 2), 1, requires_grad=True), pyramids((3, 4), (2, 2), 1)
    module: nn.Module
    if loss == "SCFDLoss":
        module, side = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"), sampling=sampling), "student rgb"
        inputs: tuple[object, object] = (student, teacher)
    else:
        module, side = ReviewKDLoss((3, 4), (3, 4)), "student"
        inputs = (student.rgb, teacher.rgb)
    before = {name: values.clone() for name, values in module.state_dict().items()}
    with pytest.raises(ShapeError, match=rf"^{loss}: {side} level 2: values per channel: expected at least 2 .*eval"):
        module(*inputs)
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())
    assert module.eval()(*inputs).total.isfinite()


@pytest.mark.usefixtures("one_process")
def test_what_one_process_refuses_all_refuse_where_statistics_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))
    assert synchronized_batch_norm(loss) is None
    norm = synchronized_batch_norm(nn.SyncBatchNorm.convert_sync_batchnorm(loss))
    assert norm is not None
    assert synchronized_batch_norm(loss.eval()) is None
    inputs = {"student": torch.ones(3), "teacher": torch.full((3,), 1e38)}
    check_inputs("SCFDLoss", inputs, finite=True, synchronized=norm)
    with pytest.raises(NotFiniteError, match="SCFDLoss: student: values: expected finite, got 3 NaN"):
        check_inputs("SCFDLoss", inputs | {"student": torch.full((3,), torch.nan)}, finite=True, synchronized=norm)
    monkeypatch.setattr(dist, "all_reduce", lambda value, **_: value.fill_(torch.nan))  # as if another had NaN
    with pytest.raises(NotFiniteError, match="SCFDLoss: the inputs of another process: values"):
        check_inputs("SCFDLoss", inputs, finite=True, synchronized=norm)
