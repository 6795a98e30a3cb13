"""Teacher features on disk, so that several runs compute them once.

This module needs safetensors, the extra ``cache``; ``mmdistill`` does not import it.
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
    """A file of a feature cache is missing, damaged, or another teacher's."""


class DamagedFileError(CacheError):
    """A file of a feature cache is truncated or damaged; delete it and put its sample again.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")


class FeatureCache:
    """A teacher's features in a folder, one safetensors file per sample.

    A key must identify the teacher's whole input: the frame, the crop and its augmentation. Files are written
    atomically, so several processes may write and read one folder.

    Args:
        folder: the files' folder; the first ``put`` creates it.
        teacher: an identifier of the teacher, such as a hash of its checkpoint. Another teacher's cache is refused.
        dtype: the dtype of stored floating point features, such as ``torch.bfloat16``; by default their own.

    Raises:
        ValueError: a wrong folder, teacher, dtype or key.
        CacheError: the folder holds another teacher's features, or a file is missing or damaged.
        ShapeError: samples of different shapes, no features, no keys, or features that are not finite.

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
        """Store one sample's features under a key, in place of earlier ones.

        Args:
            key: any string.
            features: tensors by name, without a batch axis; detached and copied here.
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
        """Return the features of several samples by name, stacked to ``(B, ...)`` in the keys' order."""
        if isinstance(keys, str) or not keys:
            raise ShapeError("FeatureCache", "keys", "batch", expected="a sequence of at least 1 key", got=repr(keys))
        for key in keys:
            if key not in self:
                missing = f"{short_repr(key)} of teacher {short_repr(self.teacher)}"
                raise CacheError(f"{self.folder}: no features are cached for {missing}")
        samples = [self._read(self._path(key), key) for key in keys]
        for key, sample in zip(keys, samples, strict=True):
            _check_alike(key, sample, keys[0], samples[0])
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _path(self, key: str) -> Path:
        # A digest, because keys may hold slashes, differ in case only, or be too long for a file name.
        if not isinstance(key, str):
            raise argument_error("FeatureCache", "key", "a string", key)
        name = key.encode("utf-8", "surrogatepass")  # keys from file names may not be valid UTF-8
        return self.folder / f"{hashlib.sha256(name).hexdigest()}{SUFFIX}"

    def _stored(self, key: str, name: str, value: Tensor) -> Tensor:
        dtype = self.dtype if self.dtype and value.is_floating_point() else value.dtype
        # Cloned, because the file format refuses tensors that share memory.
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
        if (file_format := metadata.get("format", "no format")) != FORMAT:
            raise CacheError(f"{path}: expected features {FORMAT!r}, got {short_repr(file_format)}")
        if problem := digest_problem(features, metadata, required=True):
            raise DamagedFileError(path, f"damaged, or changed after it was written: {problem}; {_REMEDY}")
        if metadata.get("teacher") != self.teacher:
            got, expected = short_repr(metadata.get("teacher")), short_repr(self.teacher)
            raise CacheError(
                f"{path}: expected features of teacher {expected}, got those of {got}; use one folder for each teacher"
            )
        if key is not None and (file_key := metadata.get("key", "")) != _readable(key):
            raise CacheError(f"{path}: expected features of {key[:100]!r}, got those of {file_key[:100]!r}; {_REMEDY}")
        return features


def _readable(key: str) -> str:
    """Return the key as valid UTF-8."""
    return key.encode("utf-8", "backslashreplace").decode()


def _check_alike(key: str, sample: Mapping[str, Tensor], first: str, like: Mapping[str, Tensor]) -> None:
    """Refuse a sample whose features have other names or shapes than the first sample's."""
    if sample.keys() != like.keys():
        expected = f"{', '.join(sorted(like))} as {first!r}"
        raise ShapeError("FeatureCache", repr(key), "features", expected=expected, got=", ".join(sorted(sample)))
    for name, value in sample.items():
        if value.shape != like[name].shape:
            expected = f"{tuple(like[name].shape)} as {first!r}"
            raise ShapeError("FeatureCache", f"{key!r} {name}", "shape", expected=expected, got=tuple(value.shape))
