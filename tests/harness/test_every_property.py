"""What holds at any size, dtype and scale."""

from __future__ import annotations

import torch
from harness.case import Case, Sizes, assert_finite, named, samples
from harness.cases import every_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sizes = st.builds(
    Sizes,
    batch=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    student=st.integers(1, 4),
    teacher=st.integers(1, 4),
)
seeds = st.integers(0, 2**16)
# One test function serves all cases, so hypothesis sees the case as a fixture that stays.
few = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@every_case
@few
@given(
    sizes=sizes,
    seed=seeds,
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_values_and_gradients_are_finite(case: Case, sizes: Sizes, seed: int, scale: float, dtype: torch.dtype) -> None:
    step = case.step(case.module(sizes, dtype), case.tensors(sizes, dtype, scale=scale, seed=seed))
    assert_finite(step)
    if case.is_loss:
        # Rounding may carry a divergence of equal distributions below zero by a few units of the last place.
        assert all(bool(value >= -torch.finfo(dtype).eps * 8) for value in step.outputs.values())


@every_case
@few
@given(sizes=sizes, seed=seeds, data=st.data())
def test_the_order_of_the_batch_does_not_matter(case: Case, sizes: Sizes, seed: int, data: st.DataObject) -> None:
    order = torch.tensor(data.draw(st.permutations(range(sizes.batch))))
    module, tensors = case.module(sizes), case.tensors(sizes, seed=seed)
    permuted = {name: samples(values, case.inputs[name].axes, order) for name, values in tensors.items()}
    expected, got = (named(case.call(module, given)) for given in (tensors, permuted))
    for number, (name, value) in enumerate(expected.items()):
        if not case.is_loss:
            value = samples(value, case.outputs[number], order)
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-12)


@every_case
@few
@given(sizes=sizes, seed=seeds)
def test_samples_do_not_see_each_other(case: Case, sizes: Sizes, seed: int) -> None:
    """The batch's value is the mean of the samples' values; a block's output is the samples' outputs."""
    module, tensors = case.module(sizes), case.tensors(sizes, seed=seed)
    whole = named(case.call(module, tensors))
    alone = []
    for sample in range(sizes.batch):
        one = {
            name: samples(values, case.inputs[name].axes, torch.tensor([sample])) for name, values in tensors.items()
        }
        alone.append(named(case.call(module, one)))
    for number, (name, value) in enumerate(whole.items()):
        parts = [outputs[name] for outputs in alone]
        if case.is_loss:
            joined = torch.stack(parts).mean(dim=0)
        else:
            joined = torch.cat(parts, dim=case.outputs[number].split().index("B"))
        torch.testing.assert_close(joined, value, rtol=1e-9, atol=1e-12)
