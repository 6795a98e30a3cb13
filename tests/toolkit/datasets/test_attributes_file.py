from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.folder_sequence import read_attributes, write_attributes


def test_attributes_are_written_and_read(tmp_path: Path) -> None:
    attributes = {"occlusion": np.array([True, False, True]), "low light": np.zeros(3, bool)}
    write_attributes(tmp_path / "a.json", attributes)
    again = read_attributes(tmp_path / "a.json", 3)
    assert list(again) == list(attributes)
    for name, flags in attributes.items():
        assert again[name].dtype == bool
        np.testing.assert_array_equal(again[name], flags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 0]", r"expected a JSON object .*got a list"),
        ('{"fast": [1, 0, 1]}', r"expected 2 flags 0 or 1 for 'fast'"),
        ('{"fast": [1, 2]}', r"expected 2 flags"),
        ('{"fast": 1}', r"expected 2 flags"),
        ('{"fast": [1,\n', r"line 2: not JSON"),
        ('{"fast": ' + "[" * 100_000, r"nested too deep"),
    ],
)
def test_malformed_attributes_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        read_attributes(tmp_path / "a.json", 2)
