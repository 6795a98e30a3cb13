"""FeatureTaps: features of any nn.Module's layers, by layer name."""

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
    """Features of a model's layers: a context manager, and a mapping from layer name to feature.

    Names are those of ``model.named_modules()``; ``""`` is the model itself. The wrapper prefixes ``module.`` and
    ``_orig_mod.`` are optional. Names are resolved at each enter, so layers may be replaced in between. A layer with
    two names is recorded under both.

    The block records calls of its own thread, but no calls during a backward pass (activation checkpointing). After the
    block the model is as before. Under ``torch.compile`` the model is compiled once with taps and once without.

    Features, with their graph, are kept until ``pair()``, ``clear()``, the next enter or an exception in the block.
    Copies and pickles of taps, and of models with taps as attribute, have no features; a copied model's taps are on the
    copy.

    Args:
        model: any module, wrapped or not.
        names: the layers, in the mapping's order.
        select: by name, a function from the layer's output to the feature: ``{"attn": lambda output: output[0]}``. The
            feature may be any pytree with tensors. By default a layer's output must be a tensor or ``FusedPaths``.
        copy: whether the model goes on with a copy of each feature, so that later in-place operations, such as
            ``ReLU(inplace=True)`` or ``x += shortcut``, do not overwrite it. It costs memory and time. Without it,
            access to an overwritten feature raises an error. Compiled code always copies.

    Raises:
        ValueError: at construction, a ``model``, ``select`` or ``copy`` of a wrong type.
        TapError: at construction or enter, an unknown layer; at enter, taps that are entered already; in the model's
            call, an output that needs ``select`` or has no tensors; on access, a layer that did not run, or a feature
            that was overwritten in place.

    Warns:
        TapWarning: at exit, a layer that did not run.

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
        names, select = _check_names("names", names), {} if select is None else select
        if not isinstance(select, Mapping) or not all(callable(value) for value in select.values()):
            raise argument_error("FeatureTaps", "select", "a mapping from names to callables", select)
        unknown = sorted(select.keys() - set(names))
        if unknown:
            raise TapError(f"FeatureTaps: select: expected tapped names, got {unknown}")
        paths = find_layers(model, names)
        self.__setstate__({"model": model, "paths": paths, "select": dict(select), "copy": copy})

    def __getstate__(self) -> dict[str, Any]:
        """Leave features and hooks out of copies and pickles."""
        return {"model": self._model, "paths": self._paths, "select": self._select, "copy": self._copy}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model: nn.Module = state["model"]
        self._paths: dict[str, str] = state["paths"]
        self._select: dict[str, Callable[[Any], Any]] = state["select"]
        self._copy: bool = state["copy"]
        self._taps = {name: Tap(name, self._select.get(name), self._copy) for name in self._paths}
        self._entered = False
        self._reason = ""

    def __enter__(self) -> FeatureTaps:
        if self._entered:
            raise TapError("FeatureTaps: already entered; leave the block first, or use a second FeatureTaps")
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
            self._release("was released, because the block ended with an exception")
        elif self.silent:
            warnings.warn(f"FeatureTaps: never ran: {listed(self.silent)}", TapWarning, stacklevel=2)

    @property
    def silent(self) -> list[str]:
        """The names of the layers that did not run since the last enter."""
        return [name for name, tap in self._taps.items() if not tap.ran]

    def calls(self, name: str) -> list[Any]:
        """Return the layer's features of all calls since the enter or the last ``clear()``, in order.

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
        """Return one feature per level and modality, as losses take them, and release all features.

        - One trunk, called for RGB, then for TIR: ``taps.pair()``. If it was called for the templates before,
          ``taps.pair(calls=(2, 3))``.
        - Two branches: ``taps.pair(rgb=["rgb.layer1", "rgb.layer2"], tir=["tir.layer1", "tir.layer2"])``. A layer that
          is in both lists, at the same level, ran for RGB, then for TIR.
        - Both modalities in one call, RGB in the first half of the batch: ``taps.pair(split="batch")``.

        Args:
            names: the levels, shallow to deep; by default all tapped layers.
            rgb: the RGB levels, if RGB and TIR have different layers.
            tir: the TIR levels, as many.
            calls: the numbers of the RGB call and the TIR call, from 0; negative numbers count from the end. One number
                for both if each modality has its own layers, and with ``split``. By default a layer must have run
                exactly once per modality.
            split: how to split one call's feature: ``"batch"`` into halves, or a function that returns the RGB and the
                TIR feature.
            keep: whether to keep the features in the taps.

        Raises:
            TapError: a layer is not tapped, did not run, or ran another number of times; RGB and TIR are the same call
                or object; a layer is at different levels of ``rgb`` and ``tir``.
            ValueError: arguments that exclude each other, or have a wrong type.
        """
        keep = check_bool("FeatureTaps.pair", "keep", keep)
        if not (split is None or split == "batch" or callable(split)):
            raise argument_error("FeatureTaps.pair", "split", '"batch" or a function', split)
        if split is not None and rgb is not None:
            raise argument_error("FeatureTaps.pair", "split", "None with rgb and tir, which are whole features", split)
        numbers = _call_numbers(calls, per_modality=split is None)
        levels = [
            self._level(first, second, numbers) if split is None else self._split(first, numbers[0], split)
            for first, second in zip(*self._sides(names, rgb, tir), strict=True)
        ]
        if not keep:
            self._release("was released by pair(); to keep it, use pair(..., keep=True)")
        return Pair([level[0] for level in levels], [level[1] for level in levels])

    def clear(self) -> None:
        """Release all features, inside the block or after it."""
        self._release("did not run since clear()")

    def __getitem__(self, name: str) -> Any:
        return self._recorded(name)[-1].checked(name)

    def __contains__(self, name: object) -> bool:
        return name in self._taps

    def __iter__(self) -> Iterator[str]:
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)

    def _release(self, reason: str) -> None:
        self._reason = reason
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
            raise TapError(f"FeatureTaps: {name!r} {self._reason}")
        raise TapError(
            f"FeatureTaps: {name!r} did not run since the taps were entered: the model was not called in the block, "
            "its forward skips this layer, or a copy of the model or another thread ran"
        )

    def _sides(
        self, names: Sequence[str] | None, rgb: Sequence[str] | None, tir: Sequence[str] | None
    ) -> tuple[list[str], list[str]]:
        """Return the names of the RGB and of the TIR levels."""
        if (rgb is None) != (tir is None) or (names is not None and rgb is not None):
            raise ValueError("FeatureTaps.pair: expected rgb and tir, or names, or none of them, got others")
        if rgb is None or tir is None:
            levels = list(self._taps) if names is None else _check_names("pair: names", names)
            return levels, levels
        levels, others = _check_names("pair: rgb", rgb), _check_names("pair: tir", tir)
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
                    f"FeatureTaps: pair: {rgb!r}: expected 2 calls, RGB's and TIR's, got {count}; choose two, such as "
                    'calls=(2, 3), or use split="batch" if one call holds both'
                )
            numbers = (0, 1) if None in numbers else numbers
        features = self._call(rgb, numbers[0]), self._call(tir, numbers[1])
        if rgb == tir and features[0] is features[1]:
            raise TapError(
                f"FeatureTaps: pair: calls: expected an RGB call and a TIR call of {rgb!r}, got one call as both; "
                'use split="batch" if it holds both'
            )
        return features

    def _call(self, name: str, number: int | None) -> Any:
        recorded = self._recorded(name)
        if number is None and len(recorded) > 1:
            raise TapError(
                f"FeatureTaps: pair: {name!r}: expected 1 call, got {len(recorded)}; choose one, such as calls=1"
            )
        number = 0 if number is None else number
        if not -len(recorded) <= number < len(recorded):
            raise TapError(
                f"FeatureTaps: pair: calls: expected calls 0 to {len(recorded) - 1} of {name!r}, got {number}"
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


def _call_numbers(calls: object, *, per_modality: bool) -> tuple[int | None, int | None]:
    """Return the number of the RGB call and that of the TIR call."""
    values = calls if isinstance(calls, tuple | list) and per_modality else (calls, calls)
    numbers = tuple(number for number in values if isinstance(number, int) and not isinstance(number, bool))
    if calls is None:
        return None, None
    if len(numbers) != 2 or len(values) != 2:
        expected = "the numbers of the RGB call and the TIR call" if per_modality else "one number with split"
        raise argument_error("FeatureTaps.pair", "calls", expected, calls)
    return numbers


def _check_names(argument: str, names: object) -> list[str]:
    """Return a sequence of at least one name, without duplicates."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TapError(f"FeatureTaps: {argument}: expected a sequence of names, got {short_repr(names)}")
    if not names:
        raise TapError(f"FeatureTaps: {argument}: expected at least one")
    result = list(names)
    duplicates = sorted({name for name in result if result.count(name) > 1})
    if duplicates:
        raise TapError(f"FeatureTaps: {argument}: expected each once, got {listed(duplicates)} twice")
    return result
