import warnings

import pytest
import torch
import torch.distributed as dist
from helpers import pyramids
from torch import nn

from mmdistill import DeadTermWarning, HFRDLoss, MPSDFusion, MPSDLoss, NotFiniteError, Pair, SCFDLoss
from mmdistill.errors import check_inputs, synchronized_statistics


def test_a_student_without_gradient_is_reported() -> None:
    with pytest.warns(DeadTermWarning, match="HFRDLoss: no student input requires gradient") as caught:
        HFRDLoss()(*torch.rand(3, 2, 5, 5))
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


@pytest.mark.usefixtures("one_process")
def test_what_one_process_refuses_all_refuse_where_statistics_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = SCFDLoss((3, 4), (3, 4), interaction=("sem", "cem"))
    assert synchronized_statistics(loss) is None
    norm = synchronized_statistics(nn.SyncBatchNorm.convert_sync_batchnorm(loss))
    assert norm is not None
    assert synchronized_statistics(loss.eval()) is None
    inputs = {"student": torch.ones(3), "teacher": torch.full((3,), 1e38)}
    check_inputs("SCFDLoss", inputs, finite=True, synchronized=norm)
    with pytest.raises(NotFiniteError, match="SCFDLoss: student: values: expected finite, got 3 NaN"):
        check_inputs("SCFDLoss", inputs | {"student": torch.full((3,), torch.nan)}, finite=True, synchronized=norm)
    monkeypatch.setattr(dist, "all_reduce", lambda value, **_: value.fill_(torch.nan))  # as if another had NaN
    with pytest.raises(NotFiniteError, match="SCFDLoss: the inputs of another process: values"):
        check_inputs("SCFDLoss", inputs, finite=True, synchronized=norm)
