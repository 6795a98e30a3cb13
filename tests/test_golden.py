"""The golden values: small enough for a repository, and what the script that cuts them computes."""

import numpy as np
from golden import cut_fixtures
from helpers import GOLDEN


def test_every_file_is_small() -> None:
    files = [path for path in GOLDEN.iterdir() if path.suffix in (".npz", ".json")]
    assert {path.name for path in files} == {*cut_fixtures.CUTS, *cut_fixtures.LAYOUTS}
    assert [path.name for path in files if path.stat().st_size > cut_fixtures.MAX_BYTES] == []


def test_the_narrow_iou_net_is_what_the_plain_one_computes() -> None:
    values = np.load(GOLDEN / "iou_net.npz")
    outputs = cut_fixtures.iou_net({name: values[name] for name in values.files})
    assert len(outputs) == 6
    for name, value in outputs.items():
        np.testing.assert_allclose(value, values[name], rtol=1e-6, atol=1e-8, err_msg=name)
