"""FeatureTaps: the features of any nn.Module's layers, by layer name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from mmdistill._checks.arguments import argument_error, check_bool, short_repr
from mmdistill.feature_taps.layers import TapError, find_layers, listed, resolve
from mmdistill.feature_taps.recording import Call, Tap
from mmdistill.pair import Pair


class TapWarning(UserWarning):
    """A tapped layer never ran."""


class FeatureTaps(Mapping[str, Any]):
    """The features of named layers of any model: a context manager, and a mapping from name to feature.

    Names are those of ``model.named_modules()``, ``""`` for the model itself. The prefixes that wrapping adds,
    ``module.`` and ``_orig_mod.``, may be written or left out. Which layer has a name is looked up at each enter, so
    layers may be replaced in between. A layer under two names is recorded under both.

    The block records the calls that its own thread makes. Calls during a backward pass (activation checkpointing) are
    not recorded. Nothing stays on the model after the block. Under ``torch.compile`` the model is compiled once with
    taps and once without, in any order.

    Features stay, with their graph, until ``pair()`` hands them over, ``clear()``, the next enter, or an exception in
    the block. Copies and pickles of the taps, and of models that have taps as an attribute, come without features; the
    taps of a copied model are taps on the copy.

    Args:
        model: any module, wrapped or not.
        names: the layers, in the order in which they are iterated over.
        select: by name, what to take of a layer's output: ``{"attn": lambda output: output[0]}``. It may return any
            pytree with tensors. Without it a layer must give a tensor or ``FusedPaths``.
        copy: whether the model goes on with a copy of each tapped feature, so that no in-place layer that
            follows, such as ``ReLU(inplace=True)`` or ``x += shortcut``, overwrites it. Costs the copy's memory
            and time. Without it a feature that was overwritten is refused on access. Compiled code always copies.

    Raises:
        ValueError: at construction, a ``model``, ``select`` or ``copy`` of a wrong type.
        TapError: at construction or enter, no such layer; at enter, taps already entered; in the model's call, an
            output without tensors, or one that needs ``select``; on access, a layer that did not run, or a feature
            that was overwritten in place.

    Warns:
        TapWarning: at exit, a layer that never ran.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmdistill.feature_taps import FeatureTaps
        >>> student = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3))
        >>> with FeatureTaps(student, ["0", "2"]) as taps:
        ...     _ = student(torch.zeros(2, 3, 16, 24))  # RGB
        ...     _ = student(torch.ones(2, 3, 16, 24))  # TIR
        >>> {name: tuple(features.shape) for name, features in taps.items()}  # of the last call
        {'0': (2, 8, 14, 22), '2': (2, 4, 12, 20)}
        >>> rgb, tir = taps.calls("0")
        >>> levels = taps.pair()
        >>> levels.rgb[0] is rgb, levels.tir[0] is tir, len(levels.rgb)
        (True, True, 2)
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        *,
        select: Mapping[str, Callable[[Any], Any]] | None = None,
        copy: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise argument_error("FeatureTaps", "model", "a module", model)
        copy = check_bool("FeatureTaps", "copy", copy)
        names, select = _sequence("names", names), {} if select is None else select
        if not isinstance(select, Mapping) or not all(callable(value) for value in select.values()):
            raise argument_error("FeatureTaps", "select", "a mapping from names to what can be called", select)
        unknown = sorted(select.keys() - set(names))
        if unknown:
            raise TapError(f"FeatureTaps: select: expected names that are tapped, got {unknown}")
        paths = find_layers(model, names)
        self.__setstate__({"model": model, "paths": paths, "select": dict(select), "copy": copy})

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles take along: no features, no hooks."""
        return {"model": self._model, "paths": self._paths, "select": self._select, "copy": self._copy}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model: nn.Module = state["model"]
        self._paths: dict[str, str] = state["paths"]
        self._select: dict[str, Callable[[Any], Any]] = state["select"]
        self._copy: bool = state["copy"]
        self._taps = {name: Tap(name, self._select.get(name), self._copy) for name in self._paths}
        self._entered = False
        self._gone = ""

    def __enter__(self) -> FeatureTaps:
        if self._entered:
            raise TapError("FeatureTaps: already entered; leave the block first, or build a second one")
        layers = resolve(self._model, self._paths)
        self._entered = True
        for name, tap in self._taps.items():
            tap.attach(layers[name])
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._entered = False
        for tap in self._taps.values():
            tap.detach()
        if error is not None:
            self._let_go("is gone, as the block ended with an exception")
        elif self.silent:
            warnings.warn(f"FeatureTaps: never ran: {listed(self.silent)}", TapWarning, stacklevel=2)

    @property
    def silent(self) -> list[str]:
        """The names of the layers that did not run since the last enter."""
        return [name for name, tap in self._taps.items() if not tap.ran]

    def calls(self, name: str) -> list[Any]:
        """Return what the layer gave at each of its calls since the enter or the last ``clear()``, in order.

        Raises:
            TapError: no such layer is tapped, it did not run, or a feature was overwritten in place.
        """
        return [call.checked(name) for call in self._recorded(name)]

    def pair(
        self,
        names: Sequence[str] | None = None,
        *,
        rgb: Sequence[str] | None = None,
        tir: Sequence[str] | None = None,
        calls: int | tuple[int, int] | None = None,
        split: Literal["batch"] | Callable[[Any], Sequence[Any]] | None = None,
        keep: bool = False,
    ) -> Pair[list[Any]]:
        """Hand over one feature per level and modality, as losses take them; the taps then hold nothing.

        - One trunk, called for RGB and then for TIR: ``taps.pair()``. Where it is called for the templates before,
          ``taps.pair(calls=(2, 3))``.
        - Two branches: ``taps.pair(rgb=["rgb.layer1", "rgb.layer2"], tir=["tir.layer1", "tir.layer2"])``. A layer that
          is in both lists, as at the same level, ran for RGB and then for TIR.
        - Both modalities in one call, RGB in the first half of the batch: ``taps.pair(split="batch")``.

        Args:
            names: the levels, shallow to deep; all that are tapped, in their order, by default.
            rgb: the RGB levels, where these are other layers than the TIR levels.
            tir: as many TIR levels.
            calls: the number of the RGB call and that of the TIR call, from 0; negative numbers count from the last.
                One number for both where a modality has its own layers, and with ``split``. By default a layer must
                have run exactly once per modality.
            split: how one call's feature is taken apart: ``"batch"`` by halves, or a function that returns the RGB
                and the TIR feature.
            keep: whether the taps keep all features, to be asked again.

        Raises:
            TapError: a layer is not tapped, did not run, or ran more or less often than these arguments say; RGB and
                TIR would be the same call, the same object, or a layer at different levels.
            ValueError: arguments that exclude each other, or of a wrong type.
        """
        keep = check_bool("FeatureTaps.pair", "keep", keep)
        if not (split is None or split == "batch" or callable(split)):
            raise argument_error("FeatureTaps.pair", "split", '"batch" or a function', split)
        if split is not None and rgb is not None:
            raise argument_error("FeatureTaps.pair", "split", "None with rgb and tir, which are whole features", split)
        numbers = _numbers(calls, of_each=split is None)
        levels = [
            self._level(first, second, numbers) if split is None else self._split(first, numbers[0], split)
            for first, second in zip(*self._sides(names, rgb, tir), strict=True)
        ]
        if not keep:
            self._let_go("was handed over by pair(); to ask again, use pair(..., keep=True)")
        return Pair([level[0] for level in levels], [level[1] for level in levels])

    def clear(self) -> None:
        """Let go of all features, inside the block or after it."""
        self._let_go("did not run since clear()")

    def __getitem__(self, name: str) -> Any:
        return self._recorded(name)[-1].checked(name)

    def __contains__(self, name: object) -> bool:
        return name in self._taps

    def __iter__(self) -> Iterator[str]:
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)

    def _let_go(self, why: str) -> None:
        self._gone = why
        for tap in self._taps.values():
            tap.newest = None

    def _recorded(self, name: str) -> list[Call]:
        if name not in self._taps:
            raise TapError(f"FeatureTaps: {name!r} is not tapped; tapped are {listed(list(self._taps))}")
        tap = self._taps[name]
        recorded = tap.calls()
        if recorded:
            return recorded
        if tap.ran:
            raise TapError(f"FeatureTaps: {name!r} {self._gone}")
        raise TapError(
            f"FeatureTaps: {name!r} did not run since the taps were entered: the model was not called in the block, "
            "its forward goes past this layer, or it was another copy of it, or another thread, that ran"
        )

    def _sides(
        self, names: Sequence[str] | None, rgb: Sequence[str] | None, tir: Sequence[str] | None
    ) -> tuple[list[str], list[str]]:
        """Return the names of the RGB and of the TIR levels."""
        if (rgb is None) != (tir is None) or (names is not None and rgb is not None):
            raise ValueError("FeatureTaps.pair: give rgb and tir, or names, or none of them")
        if rgb is None or tir is None:
            levels = list(self._taps) if names is None else _sequence("pair: names", names)
            return levels, levels
        levels, others = _sequence("pair: rgb", rgb), _sequence("pair: tir", tir)
        if len(levels) != len(others):
            raise TapError(f"FeatureTaps: pair: expected as many TIR levels as RGB levels, got {others} for {levels}")
        crossed = [name for number, name in enumerate(levels) if name in others and others[number] != name]
        if crossed:
            raise TapError(
                f"FeatureTaps: pair: expected {crossed[0]!r}, which is in rgb and tir, at the same level of both, got "
                f"RGB level {levels.index(crossed[0]) + 1} and TIR level {others.index(crossed[0]) + 1}"
            )
        return levels, others

    def _level(self, rgb: str, tir: str, numbers: tuple[int | None, int | None]) -> tuple[Any, Any]:
        if rgb == tir:
            count = len(self._recorded(rgb))
            if None in numbers and count != 2:
                raise TapError(
                    f"FeatureTaps: pair: {rgb!r} ran {_times(count)}, expected 2, RGB's and TIR's; say which these "
                    'calls are, such as calls=(2, 3), or split="batch" where one call holds both'
                )
            numbers = (0, 1) if None in numbers else numbers
        features = self._call(rgb, numbers[0]), self._call(tir, numbers[1])
        if rgb == tir and features[0] is features[1]:
            raise TapError(
                f"FeatureTaps: pair: calls: expected an RGB call and a TIR call of {rgb!r}, got one call as both; "
                'use split="batch" where it holds both'
            )
        return features

    def _call(self, name: str, number: int | None) -> Any:
        recorded = self._recorded(name)
        if number is None and len(recorded) > 1:
            raise TapError(
                f"FeatureTaps: pair: {name!r} ran {_times(len(recorded))}, expected 1; say which call, such as calls=1"
            )
        number = 0 if number is None else number
        if not -len(recorded) <= number < len(recorded):
            raise TapError(
                f"FeatureTaps: pair: calls: no call {number} of {name!r}, which ran {_times(len(recorded))}; "
                "the first call is 0"
            )
        return recorded[number].checked(name)

    def _split(
        self, name: str, number: int | None, split: Literal["batch"] | Callable[[Any], Sequence[Any]]
    ) -> tuple[Any, Any]:
        feature = self._call(name, number)
        if split != "batch":
            halves = split(feature)
            if not isinstance(halves, tuple | list) or len(halves) != 2:
                raise TapError(
                    f"FeatureTaps: pair: split: expected (rgb, tir) of {name!r}, got {type(halves).__name__}"
                )
            if halves[0] is halves[1]:
                raise TapError(
                    f"FeatureTaps: pair: split: expected the RGB and the TIR part of {name!r}, got one object twice"
                )
            return halves[0], halves[1]
        if not isinstance(feature, Tensor) or feature.ndim == 0 or feature.shape[0] % 2:
            raise TapError(
                f"FeatureTaps: pair: split: expected {name!r} to be a tensor with RGB in the first half of its batch "
                f"and TIR in the second, got {short_repr(feature)}"
            )
        rgb, tir = feature.chunk(2)
        return rgb, tir


def _numbers(calls: object, *, of_each: bool) -> tuple[int | None, int | None]:
    """Return the number of the RGB call and that of the TIR call."""
    given = calls if isinstance(calls, tuple | list) and of_each else (calls, calls)
    numbers = tuple(number for number in given if isinstance(number, int) and not isinstance(number, bool))
    if calls is None:
        return None, None
    if len(numbers) != 2 or len(given) != 2:
        expected = "the numbers of the RGB call and the TIR call" if of_each else "one number with split"
        raise argument_error("FeatureTaps.pair", "calls", expected, calls)
    return numbers


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _sequence(argument: str, names: object) -> list[str]:
    """Refuse what is no sequence of different names, at least one."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TapError(f"FeatureTaps: {argument}: expected a sequence of names, got {short_repr(names)}")
    if not names:
        raise TapError(f"FeatureTaps: {argument}: expected at least one")
    found = list(names)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise TapError(f"FeatureTaps: {argument}: expected each once, got {listed(twice)} twice")
    return found
