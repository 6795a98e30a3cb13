from __future__ import annotations

import copy
import io
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import IS_DICT, scalar, two_terms
from torch import nn
from torch.utils import _pytree as pytree

from mmdistill import HFRDLoss, Pair, SCFDLoss, Terms, dead_terms
from mmdistill.losses import KDLoss, ModalityDistillationLoss


def test_it_is_a_mapping_whose_total_carries_gradient() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    terms = Terms.summed(first=x * x, second=2 * x)
    assert list(terms) == ["first", "second"]
    assert dict(terms) == {"first": terms["first"], "second": terms["second"]}
    assert len(terms) == 2
    assert "total" not in terms
    assert terms.total.item() == 15
    assert terms.total is terms.total
    terms.total.backward()
    assert x.grad is not None
    assert x.grad.item() == 8


def test_weights_scale_the_total_and_leave_the_parts() -> None:
    one, two = Terms.summed(a=torch.tensor(1.0)), Terms.summed(b=torch.tensor(10.0), c=torch.tensor(5.0))
    terms = Terms.weighted((0.5, one), (2.0, two))
    assert {name: value.item() for name, value in terms.items()} == {"a": 1, "b": 10, "c": 5}
    assert terms.total.item() == 30.5
    assert terms.weights == {"a": 0.5, "b": 2.0, "c": 2.0}
    nested = Terms.weighted((3.0, terms), (1.0, Terms.summed(d=torch.tensor(1.0))))
    assert nested.weights == {"a": 1.5, "b": 6.0, "c": 6.0, "d": 1.0}
    assert nested.total.item() == 92.5


def test_what_two_losses_call_alike_is_prefixed_and_nothing_else() -> None:
    student, teacher = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    kd = KDLoss(over="response")(student, teacher)
    md = ModalityDistillationLoss((3,), (3,))([student], [teacher])
    hfrd = HFRDLoss()(student, teacher, torch.rand(2, 3, 4, 4))
    terms = Terms.weighted((2.0, kd), (10.0, md), (1.0, hfrd))
    assert list(terms) == ["kd.distillation", "md.distillation", "response"]
    assert terms["kd.distillation"] is kd["distillation"]
    assert terms["md.distillation"] is md["distillation"]
    torch.testing.assert_close(terms.total, 2 * kd.total + 10 * md.total + hfrd.total)
    # A weighted loss keeps its name, so that a later sum can prefix its parts.
    later = Terms.weighted((1.0, Terms.weighted((0.5, kd))), (1.0, Terms.weighted((2.0, md))))
    assert later.weights == {"kd.distillation": 0.5, "md.distillation": 2.0}


def test_two_losses_of_one_kind_are_told_apart_by_keyword_and_a_dead_one_is_found() -> None:
    student, teacher = nn.Conv2d(1, 2, 1), torch.randn(2, 2, 4, 4)
    losses = [SCFDLoss((2,), (2,), interaction=("sem",)) for _ in range(2)]
    features = student(torch.randn(2, 1, 4, 4))
    alive, dead = (
        loss(Pair([x], [x + 1]), Pair([teacher], [teacher + 1]))
        for loss, x in zip(losses, (features, features.detach()), strict=True)
    )
    with pytest.raises(ValueError, match=r"two parts are called 'scfd\.specific'.*keyword"):
        Terms.weighted((1.0, alive), (1.0, dead))
    terms = Terms.weighted(early=(1.0, alive), late=(0.1, dead))
    assert list(terms) == ["early.specific", "late.specific"]
    assert terms.weights == {"early.specific": 1.0, "late.specific": 0.1}
    assert dead_terms(terms, student.named_parameters()) == ["late.specific"]
    assert list(Terms.weighted((1.0, Terms.summed(box=scalar(1.0))), late=(1.0, dead))) == ["box", "specific"]
    assert list(Terms.weighted(cls=(1.0, alive), self=(1.0, dead))) == ["cls.specific", "self.specific"]  # any name


def test_names_that_would_be_lost_are_refused() -> None:
    plain = Terms.summed(a=scalar(1.0))
    with pytest.raises(ValueError, match="two parts are called 'a'"):
        Terms.weighted((1.0, plain), (1.0, plain))
    taken = Terms.summed(**{"kd.a": scalar(1.0)})
    with pytest.raises(ValueError, match=r"two parts are called 'kd\.a'"):
        Terms.weighted((1.0, taken), (1.0, plain), kd=(1.0, plain))
    for make in (lambda: Terms.summed(total=scalar(1.0)), lambda: Terms({"total": scalar(1.0)})):
        with pytest.raises(ValueError, match="'total'"):
            make()
    with pytest.raises(ValueError, match="'total'"):
        plain["total"] = scalar(1.0)
    with pytest.raises(ValueError, match="at least one"):
        Terms.weighted()
    with pytest.raises(TypeError, match=r"argument 2: expected \(weight, Terms\), got \(Terms, float\)"):
        Terms.weighted((1.0, plain), (plain, 1.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"rgb: expected \(weight, Terms\), got Terms"):
        Terms.weighted(rgb=plain)  # type: ignore[arg-type]


def test_a_part_that_is_changed_changes_the_total_and_none_can_be_taken_out() -> None:
    terms = two_terms()
    assert terms.total.item() == 15.5
    terms["kd.distillation"] = torch.tensor(1.0)
    assert terms.total.item() == 14.5
    for take in (lambda: terms.pop("kd.distillation"), lambda: terms.popitem(), lambda: terms.clear()):
        with pytest.raises(TypeError, match="parts cannot be removed"):
            take()
    assert len(terms) == 2


def test_what_changes_it_keeps_the_total_right_or_is_refused() -> None:
    """Each method that a dictionary has, after the total was asked for: a copy that lost the weights had 10."""
    terms = two_terms().named("both")
    assert terms.total.item() == 15.5
    copied = terms.copy()
    assert (type(copied), copied.weights, copied.name) == (Terms, terms.weights, "both")
    assert copied.total.item() == 15.5
    assert copied.total.requires_grad
    other = Terms.weighted((3.0, Terms.summed("hfrd", response=scalar(2.0))))
    updated, merged = terms.copy(), terms.copy()
    updated.update(other)
    merged |= other
    for together in (terms | other, updated, merged):
        assert together.weights == {"kd.distillation": 0.5, "md.distillation": 2.0, "response": 3.0}
        assert together.total.item() == 21.5
        assert together.name == ""  # of no one loss
    assert terms.total.item() == 15.5
    plain = terms | {"own": scalar(1.0)}
    plain |= {"own": scalar(2.0)}
    plain.update([("own", scalar(3.0))], late=scalar(4.0))
    assert plain.total.item() == 15.5 + 3 + 4
    assert list(Terms((name, plain[name]) for name in reversed(plain)).weights.values()) == [1.0, 1.0, 2.0, 0.5]
    for overwrite in (lambda: terms | two_terms(), lambda: terms.update(two_terms()), lambda: terms.__ior__(terms)):
        with pytest.raises(ValueError, match=r"both have kd\.distillation, md\.distillation; .*Terms\.weighted"):
            overwrite()
    with pytest.raises(TypeError, match="unsupported operand"):
        terms | 3


@IS_DICT
def test_parts_are_not_moved_away_from_their_names() -> None:
    terms = two_terms()
    with pytest.raises(TypeError, match="parts cannot be removed or moved"):
        terms.move_to_end("kd.distillation")
    assert terms.setdefault("kd.distillation", scalar(50.0)).item() == 3
    assert Terms(terms).setdefault("own", scalar(5.0)).item() == 5
    merged = OrderedDict(first=scalar(1.0)) | terms
    assert list(merged) == ["first", "kd.distillation", "md.distillation"]


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), True, None, "2", 2j, torch.tensor(2.0)])
def test_weights_that_are_no_finite_numbers_are_refused(weight: Any) -> None:
    kd = Terms.summed("kd", a=scalar(3.0))
    with pytest.raises(ValueError, match=r"Terms\.weighted: argument 1: weight: expected"):
        Terms.weighted((weight, kd))
    with pytest.raises(ValueError, match=r"Terms\.weighted: kd: weight: expected"):
        Terms.weighted(kd=(weight, kd))
    with pytest.raises(ValueError, match="Terms: a: weight: expected"):
        Terms({"a": scalar(3.0)}, weights={"a": weight})


def test_weights_of_any_sign_and_numpys_numbers() -> None:
    kd = Terms.summed("kd", a=scalar(3.0))
    for weight in (0, -2.0, np.float32(0.5), np.int64(4)):
        terms = Terms.weighted((weight, kd))
        assert type(terms.weights["a"]) is float
        assert terms.total.item() == 3 * weight
        assert Terms(terms.items()).total.item() == 3 * weight
    learned = nn.Parameter(torch.tensor(2.0))
    with pytest.raises(ValueError, match="learned weight"):  # names can't carry it, and DDP would not find it
        Terms.weighted((learned, kd))  # type: ignore[arg-type]


def test_without_parts_there_is_no_total_and_no_part_is_lost_in_making_it() -> None:
    for no_total in (lambda: Terms().total, lambda: Terms().as_dict(), lambda: Terms.weighted((1.0, Terms()))):
        with pytest.raises(ValueError, match="Terms: total: expected at least one part"):
            no_total()
    with pytest.raises(ValueError, match="at least one part"):
        Terms.summed()
    with pytest.raises(ValueError, match="two parts are called 'a'"):
        Terms([("a", scalar(1.0)), ("a", scalar(2.0))])
    for wrong, got in (({}, "none"), ({"b": 1.0}, "b"), ({"a": 1.0, "b": 1.0}, "a, b")):
        with pytest.raises(ValueError, match=rf"one for each part \(a\), got {got}$"):
            Terms({"a": scalar(1.0)}, weights=wrong)
    kd = Terms.summed("kd", a=scalar(1.0))
    assert (Terms(kd).name, Terms(kd, name="own").name) == ("kd", "own")
    assert Terms(kd, weights={"a": 3.0}).total.item() == 3


class OwnTerms(Terms):
    """A user's own kind."""


def test_a_users_own_kind_stays_that_kind() -> None:
    own = OwnTerms({"a": scalar(3.0).detach()}, weights={"a": 2.0}, name="own")
    for got in (copy.copy(own), copy.deepcopy(own), pickle.loads(pickle.dumps(own)), own.copy(), own.named("own")):
        assert (type(got), got.weights, got.name) == (OwnTerms, {"a": 2.0}, "own")
    doubled = pytree.tree_map(lambda value: 2 * value, own)
    assert (type(doubled), doubled.total.item()) == (OwnTerms, 12)


def test_it_is_loaded_from_a_file_without_running_code() -> None:
    file = io.BytesIO()
    torch.save({"step": 3, "terms": two_terms()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)["terms"]
    assert type(loaded) is Terms
    assert loaded.weights == {"kd.distillation": 0.5, "md.distillation": 2.0}
    assert loaded.total.item() == 15.5


def test_the_plain_dictionary_has_plain_names_and_the_total() -> None:
    terms = two_terms()
    plain = terms.as_dict()
    assert type(plain) is dict
    assert {type(name) for name in plain} == {str}
    assert {name: value.item() for name, value in plain.items()} == {
        "kd.distillation": 3,
        "md.distillation": 7,
        "total": 15.5,
    }


def test_names_are_logged_and_saved_as_strings() -> None:
    logged = {f"loss/{name}": value.item() for name, value in two_terms().items()}
    assert logged == {"loss/kd.distillation": 3, "loss/md.distillation": 7}
    values = {name: value.item() for name, value in two_terms().items()}
    assert json.loads(json.dumps(values)) == values
    file = io.BytesIO()
    torch.save(values, file)
    file.seek(0)
    for loaded in (torch.load(file, weights_only=True), pickle.loads(pickle.dumps(values)), copy.deepcopy(values)):
        assert loaded == values
        assert {type(name) for name in loaded} == {str}
    odd = Terms({"Größe/λ 1\n": torch.tensor(1.0)}, name="x")
    assert pickle.loads(pickle.dumps(list(odd))) == ["Größe/λ 1\n"]


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda terms: pickle.loads(pickle.dumps(terms))])
def test_copies_keep_weights_and_name(through: Callable[[Terms], Terms]) -> None:
    detached = Terms({name: value.detach() for name, value in two_terms().items()}, name="both")
    got = through(detached)
    assert isinstance(got, Terms)
    assert (got.weights, got.name) == (detached.weights, detached.name)
    assert got.total.item() == 15.5
