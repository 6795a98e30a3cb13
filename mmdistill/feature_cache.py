"""Teacher features on disk, so that a run pays for the teacher once; the one module here that touches files.

It needs safetensors, the extra ``cache``, and is never imported by ``mmdistill`` itself.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmdistill._checks.arguments import argument_error, check_text, short_repr
from mmdistill.errors import NotFiniteError, ShapeError

try:
    from mmdistill.tensor_file import TensorFileError, digest_problem, pack, unpack
except ModuleNotFoundError as error:
    raise ImportError("mmdistill.feature_cache needs safetensors: pip install 'mmdistill[cache]'") from error

FORMAT = "mmdistill-features-2"
SUFFIX = ".safetensors"

_REMEDY = "delete it and put its sample again"


class CacheError(ValueError):
    """A file of a feature cache is missing, broken, or another teacher's."""


class DamagedFileError(CacheError):
    """A file of a feature cache is truncated or damaged; its sample can be put again once the file is deleted.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")


class FeatureCache:
    """A teacher's features of many samples, one safetensors file for each, in one folder.

    A key must name all that the teacher saw: the frame, the crop, its augmentation. Files are written whole or not at
    all, so several processes may fill and read one folder.

    Args:
        folder: where the files lie; made by the first ``put``.
        teacher: what tells this teacher from others, such as a hash of its checkpoint; any other's cache is refused.
        dtype: what floating point features are stored as, such as ``torch.bfloat16``; as they come, if not given.

    Raises:
        ValueError: a folder, teacher or dtype that is none.
        CacheError: the folder holds another teacher's features; a file is missing, truncated or something else.
        ShapeError: samples to stack differ, or nothing is given; features that are not finite.

    Example:
        >>> import tempfile, torch
        >>> from mmdistill.feature_cache import FeatureCache
        >>> cache = FeatureCache(tempfile.mkdtemp(), teacher="resnet50-4f2a", dtype=torch.bfloat16)
        >>> keys, features = ["car/0001", "car/0002"], {"layer3": torch.randn(2, 8, 4, 6)}
        >>> for n, key in enumerate(keys):
        ...     cache.put(key, {name: value[n] for name, value in features.items()})
        >>> {name: tuple(value.shape) for name, value in cache.get(keys).items()}
        {'layer3': (2, 8, 4, 6)}
    """

    def __init__(self, folder: str | Path, *, teacher: str, dtype: torch.dtype | None = None) -> None:
        if not isinstance(folder, str | Path) or not str(folder) or "\0" in str(folder):
            raise argument_error("FeatureCache", "folder", "the path of a folder", folder)
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise argument_error("FeatureCache", "dtype", "floating point, such as torch.bfloat16, or None", dtype)
        teacher = _readable(check_text("FeatureCache", "teacher", teacher))
        self.folder, self.teacher, self.dtype = Path(folder), teacher, dtype
        for path in self.folder.glob(f"*{SUFFIX}"):
            self._read(path)
            break

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.glob(f"*{SUFFIX}"))

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def put(self, key: str, features: Mapping[str, Tensor]) -> None:
        """Store one sample's features, without a batch axis, under a key; what it held before is replaced.

        Args:
            key: any text.
            features: by name, any shapes; detached and copied here.
        """
        if not features:
            raise ShapeError("FeatureCache", repr(key), "features", expected="at least 1", got=0)
        stored = {name: self._stored(key, name, value) for name, value in features.items()}
        path = self._path(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}")
        try:
            with temporary.open("wb") as file:
                file.writelines(pack(stored, {"format": FORMAT, "teacher": self.teacher, "key": _readable(key)}))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def get(self, keys: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of several samples by name, each stacked to ``(B, ...)`` in the keys' order."""
        if isinstance(keys, str) or not keys:
            raise ShapeError("FeatureCache", "keys", "batch", expected="a sequence of at least 1 key", got=repr(keys))
        for key in keys:
            if key not in self:
                wanted = f"{short_repr(key)} of teacher {short_repr(self.teacher)}"
                raise CacheError(f"{self.folder}: no features are cached for {wanted}")
        samples = [self._read(self._path(key), key) for key in keys]
        for key, sample in zip(keys, samples, strict=True):
            _check_alike(key, sample, keys[0], samples[0])
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _path(self, key: str) -> Path:
        # A digest: keys may hold slashes, differ in case only, or be longer than a file name may be.
        if not isinstance(key, str):
            raise argument_error("FeatureCache", "key", "a string", key)
        name = key.encode("utf-8", "surrogatepass")  # file names need be no UTF-8
        return self.folder / f"{hashlib.sha256(name).hexdigest()}{SUFFIX}"

    def _stored(self, key: str, name: str, value: Tensor) -> Tensor:
        dtype = self.dtype if self.dtype and value.is_floating_point() else value.dtype
        # Cloned, because features that share memory are refused by the file format.
        stored = value.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)
        broken = int((~stored.isfinite()).sum())
        if broken:
            expected, got = f"finite in {dtype}", f"{broken} NaN or infinite"
            raise NotFiniteError("FeatureCache", f"{key!r} {name}", "values", expected=expected, got=got)
        return stored

    def _read(self, path: Path, key: str | None = None) -> dict[str, Tensor]:
        try:
            features, metadata = unpack(path)
        except TensorFileError as error:
            raise DamagedFileError(path, f"not a whole file of features; {_REMEDY} ({error})") from error
        if (found := metadata.get("format", "no format")) != FORMAT:
            raise CacheError(f"{path}: expected features {FORMAT!r}, got {short_repr(found)}")
        if problem := digest_problem(features, metadata, required=True):
            raise DamagedFileError(path, f"damaged, or changed after it was written: {problem}; {_REMEDY}")
        if metadata.get("teacher") != self.teacher:
            given, expected = short_repr(metadata.get("teacher")), short_repr(self.teacher)
            came = f"features of teacher {given}, expected those of {expected}"
            raise CacheError(f"{path}: {came}; give each teacher its own folder")
        if key is not None and (found := metadata.get("key", "")) != _readable(key):
            raise CacheError(f"{path}: features of {found[:100]!r}, expected those of {key[:100]!r}; {_REMEDY}")
        return features


def _readable(key: str) -> str:
    return key.encode("utf-8", "backslashreplace").decode()


def _check_alike(key: str, sample: Mapping[str, Tensor], first: str, like: Mapping[str, Tensor]) -> None:
    """Refuse a sample whose features have not the names and shapes of the first's."""
    if sample.keys() != like.keys():
        expected = f"{', '.join(sorted(like))} as {first!r}"
        raise ShapeError("FeatureCache", repr(key), "features", expected=expected, got=", ".join(sorted(sample)))
    for name, value in sample.items():
        if value.shape != like[name].shape:
            expected = f"{tuple(like[name].shape)} as {first!r}"
            raise ShapeError("FeatureCache", f"{key!r} {name}", "shape", expected=expected, got=tuple(value.shape))
