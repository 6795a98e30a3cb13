import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmdistill import NotFiniteError, ShapeError

pytest.importorskip("safetensors", reason="safetensors is not installed")
from mmdistill.feature_cache import CacheError, DamagedFileError, FeatureCache


def features(seed: int = 0, **options: object) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"rgb.layer3": (8, 4, 6), "response": (5, 5), "score": ()}
    return {name: torch.randn(shape, generator=generator).to(**options) for name, shape in shapes.items()}  # type: ignore[call-overload]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "not" / "yet", teacher="resnet50-4f2a")


def the_file(cache: FeatureCache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_batch_comes_back_bit_for_bit_in_the_order_asked(cache: FeatureCache, dtype: torch.dtype) -> None:
    samples = {key: features(seed, dtype=dtype) for seed, key in enumerate(("a", "b", "c"))}
    for key, sample in samples.items():
        cache.put(key, sample)
    batch = cache.get(["c", "a", "c"])
    assert set(batch) == set(samples["a"])
    for name, values in batch.items():
        expected = torch.stack([samples[key][name] for key in ("c", "a", "c")])
        torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_it_counts_and_knows_its_keys_and_keeps_them_over_processes(cache: FeatureCache) -> None:
    assert len(cache) == 0
    assert "a" not in cache
    cache.put("a", features(1))
    cache.put("b", features(2))
    cache.put("a", features(3))
    for again in (cache, FeatureCache(cache.folder, teacher=cache.teacher), pickle.loads(pickle.dumps(cache))):
        assert len(again) == 2
        assert "a" in again
        torch.testing.assert_close(again.get(["a"])["response"][0], features(3)["response"])


@pytest.mark.parametrize("pair", [("car/1", "car1"), ("A", "a"), ("..", "."), ("x" * 400, "x" * 401), ("ü", "u")])
def test_keys_are_any_text_and_stay_in_the_folder(cache: FeatureCache, pair: tuple[str, str]) -> None:
    for seed, key in enumerate(pair):
        cache.put(key, features(seed))
    assert len({path.name.lower() for path in cache.folder.iterdir()}) == 2
    assert [path.name for path in cache.folder.parent.iterdir()] == [cache.folder.name]
    for seed, key in enumerate(pair):
        torch.testing.assert_close(cache.get([key])["score"][0], features(seed)["score"])


@given(st.text(max_size=50), st.text(max_size=50))
def test_two_keys_share_a_file_only_where_they_are_equal(first: str, second: str) -> None:
    cache = FeatureCache("nowhere", teacher="t")
    assert (cache._path(first) == cache._path(second)) == (first == second)
    assert first not in cache


def test_features_may_be_stored_in_half(cache: FeatureCache) -> None:
    half = FeatureCache(cache.folder, teacher=cache.teacher, dtype=torch.bfloat16)
    half.put("a", {"map": torch.full((3,), 1.001), "index": torch.tensor([70_001])})
    batch = cache.get(["a"])
    assert batch["map"].dtype == torch.bfloat16
    assert batch["map"].tolist() == [[1.0, 1.0, 1.0]]
    assert batch["index"].tolist() == [[70_001]]


def test_views_permutations_and_gradients_are_stored_as_values(cache: FeatureCache) -> None:
    both = torch.randn(2, 3, 4, 5, requires_grad=True)
    sample = {"rgb": both[0], "tir": both[1], "same": both[1], "permuted": both[0].permute(2, 0, 1)}
    cache.put("a", sample)
    for name, values in cache.get(["a"]).items():
        assert not values.requires_grad
        torch.testing.assert_close(values[0], sample[name].detach(), rtol=0, atol=0)


def test_another_teachers_cache_is_refused(cache: FeatureCache) -> None:
    cache.put("a", features())
    path = the_file(cache)
    with pytest.raises(
        CacheError, match=f"{path}: expected features of teacher 'other', got those of 'resnet50-4f2a'; use one folder"
    ):
        FeatureCache(cache.folder, teacher="other")
    mixed = FeatureCache(cache.folder.parent / "new", teacher="other")
    mixed.folder = cache.folder
    with pytest.raises(CacheError, match="got those of 'resnet50-4f2a'"):
        mixed.get(["a"])


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_names_itself(cache: FeatureCache, part: float) -> None:
    cache.put("a", features())
    path = the_file(cache)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    for read in (lambda: cache.get(["a"]), lambda: FeatureCache(cache.folder, teacher=cache.teacher)):
        with pytest.raises(CacheError, match=f"{path}: not a whole file of features; delete it and put its sample"):
            read()
    cache.put("a", features())
    assert cache.get(["a"])


def test_a_damaged_or_exchanged_file_names_itself(cache: FeatureCache) -> None:
    for seed, key in enumerate("ab"):
        cache.put(key, features(seed))
    first, second = (cache._path(key) for key in "ab")
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match=f"{first}: damaged, or changed after it was written: ") as raised:
        cache.get(["a"])
    assert raised.value.path == first
    second.replace(first)
    with pytest.raises(CacheError, match=f"{first}: expected features of 'a', got those of 'b'; delete it"):
        cache.get(["a"])


def test_the_same_features_have_the_same_bytes(cache: FeatureCache) -> None:
    contents = set()
    for _ in range(8):
        cache.put("a", features())
        contents.add(the_file(cache).read_bytes())
    assert len(contents) == 1


def test_other_safetensors_files_are_no_features(cache: FeatureCache) -> None:
    cache.folder.mkdir(parents=True)
    header = json.dumps({}).encode()
    (cache.folder / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(
        CacheError, match=r"weights\.safetensors: expected features 'mmdistill-features-2', got 'no format'"
    ):
        FeatureCache(cache.folder, teacher=cache.teacher)


def test_a_missing_key_is_named_before_anything_is_read(cache: FeatureCache) -> None:
    with pytest.raises(CacheError, match="no features are cached for 'car/7' of teacher 'resnet50-4f2a'"):
        cache.get(["car/7"])


def test_an_interrupted_put_leaves_what_was_there(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("a", features(1))

    def interrupted(_tensors: object, _metadata: object) -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    monkeypatch.setattr("mmdistill.feature_cache.pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.put("a", features(2))
    assert the_file(cache).name.endswith(".safetensors")
    torch.testing.assert_close(cache.get(["a"])["score"][0], features(1)["score"])


def test_samples_that_do_not_stack_are_named(cache: FeatureCache) -> None:
    cache.put("a", {"map": torch.zeros(2, 3)})
    cache.put("b", {"map": torch.zeros(2, 4)})
    cache.put("c", {"other": torch.zeros(2, 3)})
    with pytest.raises(ShapeError, match=r"FeatureCache: 'b' map: shape: expected \(2, 3\) as 'a', got \(2, 4\)"):
        cache.get(["a", "b"])
    with pytest.raises(ShapeError, match="FeatureCache: 'c': features: expected map as 'a', got other"):
        cache.get(["a", "c"])


def test_wrong_arguments_are_named(cache: FeatureCache) -> None:
    with pytest.raises(ShapeError, match=r"keys: batch: expected a sequence of at least 1 key, got \[\]"):
        cache.get([])
    with pytest.raises(ShapeError, match="keys: batch: expected a sequence of at least 1 key, got 'car/7'"):
        cache.get("car/7")
    with pytest.raises(ShapeError, match="FeatureCache: 'a': features: expected at least 1, got 0"):
        cache.put("a", {})
    half = FeatureCache(cache.folder, teacher=cache.teacher, dtype=torch.float16)
    with pytest.raises(
        NotFiniteError, match=r"'a' map: values: expected finite in torch.float16, got 1 NaN or infinite"
    ):
        half.put("a", {"map": torch.tensor([1.0, 1e5])})
    assert len(cache) == 0


def test_without_safetensors_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mmdistill.feature_cache", "mmdistill.tensor_file"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(
        ImportError, match=r"mmdistill.feature_cache needs safetensors: pip install 'mmdistill\[cache\]'"
    ):
        importlib.import_module("mmdistill.feature_cache")


def test_keys_that_are_no_utf8_are_kept_and_others_named(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, teacher="teacher\udcff")
    cache.put("frame\udcff", {"layer": torch.ones(2)})
    assert FeatureCache(tmp_path, teacher="teacher\udcff").get(["frame\udcff"])["layer"].shape == (1, 2)
    with pytest.raises(ValueError, match="FeatureCache: key: expected"):
        cache.put(3, {"layer": torch.ones(2)})  # type: ignore[arg-type]
