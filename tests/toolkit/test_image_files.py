from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.image_files import ImageFiles, list_images, natural_sort_key

# Few letters, so that names often differ in their digits alone; a decimal digit that is not ASCII among them.
STEMS = st.lists(st.text("ab019\u0663", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)
SAME_LENGTH = st.integers(1, 3).flatmap(lambda n: st.lists(st.text("0129", min_size=n, max_size=n), min_size=1))


@given(stems=STEMS | SAME_LENGTH)
def test_names_are_in_natural_order_however_they_are_sorted(
    stems: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")
    names = {f"{stem}.jpg" for stem in stems}
    for name in names:
        (folder / name).touch()
    assert list_images(folder).names == sorted(names, key=natural_sort_key)


def test_paths_are_made_as_needed() -> None:
    files = ImageFiles(Path("folder"), ["a.png", "b.png", "c.png"])
    assert files[1] == Path("folder/b.png")
    assert list(files[1:]) == [Path("folder/b.png"), files[-1]]
    assert len(files[:2]) == 2
    assert list(pickle.loads(pickle.dumps(files))) == list(files)
    with pytest.raises(IndexError):
        files[3]
