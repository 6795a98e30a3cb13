"""What a loss asks of two pyramids, the student's and the teacher's, before it compares them level by level."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdistill._contracts import check_aligned, check_levels, check_map


def check_pyramids(
    where: str,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    student_channels: Sequence[int],
    teacher_channels: Sequence[int],
) -> None:
    """Refuse pyramids of other levels or channels than these, or of different batch, height or width at a level."""
    for side, levels, channels in (("student", student, student_channels), ("teacher", teacher, teacher_channels)):
        check_levels(where, side, levels, len(channels))
        for number, (features, width) in enumerate(zip(levels, channels, strict=True), start=1):
            check_map(where, f"{side} level {number}", features, channels=width)
    for number, (features, like) in enumerate(zip(teacher, student, strict=True), start=1):
        check_aligned(where, f"teacher level {number}", features, like, "student")


def named_levels(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return every map by the name that an error calls it."""
    sides = {"student": student, "teacher": teacher}
    return {f"{side} level {n}": x for side, levels in sides.items() for n, x in enumerate(levels, start=1)}
