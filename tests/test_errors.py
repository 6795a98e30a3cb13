import warnings

import pytest
import torch
from helpers import pyramids

from mmdistill import DeadTermWarning, HFRDLoss, MPSDFusion, MPSDLoss, Pair, SCFDLoss


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
