"""Pickles read as data: what they hold comes out the same, and what they would do is never done."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.importing.pickles import Foreign, PickleReader

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
CONTENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(SCALARS, inner, max_size=5)
    ),
    max_leaves=20,
)


def read(content: bytes) -> Any:
    return PickleReader().read(io.BytesIO(content))


@given(content=CONTENTS, protocol=st.sampled_from(PROTOCOLS))
def test_plain_content_is_what_was_pickled(content: object, protocol: int) -> None:
    assert read(pickle.dumps(content, protocol)) == content


@given(content=st.binary(max_size=300) | st.binary(max_size=20).map(bytearray))
def test_bytes_are_what_was_pickled(content: bytes | bytearray) -> None:
    assert read(pickle.dumps(content, 5)) == content


def test_long_containers_and_texts_of_every_length() -> None:
    content = [
        list(range(3000)),
        {str(i): i for i in range(3000)},
        tuple(range(300)),
        "x" * 300,
        "y" * 70_000,
        1 << 3000,
    ]
    for protocol in PROTOCOLS:
        assert read(pickle.dumps(content, protocol)) == content


def test_one_object_stays_one_object() -> None:
    shared: list[Any] = [1]
    knot: list[Any] = [shared, shared]
    knot.append(knot)
    for protocol in PROTOCOLS:
        found = read(pickle.dumps(knot, protocol))
        assert found[0] is found[1]
        assert found[2] is found


def test_sets_come_as_lists() -> None:
    assert sorted(read(pickle.dumps({3, 1}, 4))) == [1, 3]
    assert sorted(read(pickle.dumps(frozenset({3, 1}), 4))) == [1, 3]


def test_the_stream_is_left_behind_the_pickle() -> None:
    stream = io.BytesIO(pickle.dumps("first", 2) + pickle.dumps(["second"], 4) + b"rest")
    reader = PickleReader()
    assert [reader.read(stream), reader.read(stream), stream.read()] == ["first", ["second"], b"rest"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_named_and_known_functions_stood_in_for(protocol: int) -> None:
    content = pickle.dumps([OrderedDict(a=1), Path, complex(1, 2)], protocol)
    reader = PickleReader({"collections.OrderedDict": lambda *_: {}})
    ordered, path, number = reader.read(io.BytesIO(content))
    assert ordered == {"a": 1}
    assert path == Foreign(f"{Path.__module__}.Path")
    assert number == Foreign("builtins.complex" if protocol > 2 else "__builtin__.complex")
    assert reader.foreign == {path.name, number.name}


class Does:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


PLANTED = """
from pathlib import Path
def leave_a_trace(*_):
    (Path(__file__).parent / "trace").touch()
leave_a_trace()
class Thing(dict):
    __setstate__ = append = extend = __setitem__ = leave_a_trace
"""


def hostile(folder: Path) -> dict[str, bytes]:
    """Pickles that leave a file ``trace`` in a folder when they are unpickled."""
    touch = f"touch {folder / 'trace'}"
    shell = f"S{touch!r}\n".encode()
    code = f"open({str(folder / 'trace')!r}, 'w').close()"
    thing = b"cplanted\nThing\n)\x81"
    return {
        **{f"system, protocol {p}": pickle.dumps(Does(os.system, touch), p) for p in PROTOCOLS},
        **{f"eval, protocol {p}": pickle.dumps([Does(eval, code)], p) for p in PROTOCOLS},
        "exec": pickle.dumps({"net": Does(exec, code)}),
        "in a call that is stood in for": pickle.dumps(Does(OrderedDict, [("a", Does(os.system, touch))])),
        "an attribute": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(" + shell + b"tR.",
        "a dotted name": b"\x80\x04\x8c\x02os\x8c\x06system\x93(" + shell + b"tR.",
        "an instance by INST": b"(" + shell + b"ios\nsystem\n.",
        "an instance by OBJ": b"(cos\nsystem\n" + shell + b"o.",
        "a persistent id": b"cos\nsystem\n(" + shell + b"tRQ.",
        "an import": b"cplanted\nThing\n.",
        "an import by STACK_GLOBAL": b"\x80\x04\x8c\x07planted\x8c\x05Thing\x93.",
        "a state": thing + b"}b.",
        "an item": thing + b"K\x01K\x02s.",
        "items": thing + b"(K\x01K\x02u.",
        "an append": thing + b"K\x01a.",
        "appends": thing + b"(K\x01e.",
    }


WATCH = """
import io, pickle, sys
from pathlib import Path
from mmdistill.reference.importing.pickles import PickleReader

folder = Path(sys.argv[1])
trace = folder / "trace"
sys.path.insert(0, str(folder))
PickleReader().read(io.BytesIO(pickle.dumps("é", 0)))  # so that the codecs are there
happened, watching = [], False
sys.addaudithook(lambda event, arguments: happened.append((event, arguments)) if watching else None)
files = sorted(folder.glob("*.pickle"))
for file in files:
    content = file.read_bytes()
    watching = True
    try:
        PickleReader({"collections.OrderedDict": lambda *_: {}}, lambda identity: None).read(io.BytesIO(content))
    finally:
        watching = False
    assert not trace.exists() and "planted" not in sys.modules, f"{file.stem}: was run"
    assert not happened, f"{file.stem}: {happened}"
    try:  # the same bytes do harm where pickles are loaded
        pickle.loads(content)
    except Exception:
        pass
    assert trace.exists(), f"{file.stem}: harmless"
    trace.unlink()
    sys.modules.pop("planted", None)
print(len(files))
"""


def test_nothing_in_a_pickle_is_run_or_imported(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    attacks = hostile(tmp_path)
    for name, content in attacks.items():
        (tmp_path / f"{name}.pickle").write_bytes(content)
    command = [sys.executable, "-c", WATCH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(attacks)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "pickle exhausted"),
        (b"S'\\o'\n", "pickle exhausted"),
        (b"no pickle", "opcode|unpack|pickle"),
        (pickle.dumps([1] * 9)[:-1], "pickle exhausted"),
        (b".", "a broken pickle"),
        (b"t.", "a broken pickle"),
        (b"K\x01\x86.", "too few objects on the stack"),
        (b"h\x07.", "a broken pickle"),
        (b"K\x01K\x02R.", "a call without function or arguments"),
        (b"cos\nsystem\nK\x02R.", "a call without function or arguments"),
        (b"K\x01K\x02\x93.", "a broken pickle"),
        (b"\x80\x02\x82\x01.", "opcode EXT1 is out of place"),
        (b"\x97.", "opcode NEXT_BUFFER is out of place"),
        (b"Pname\n.", "a persistent id is out of place"),
        (b"}(K\x01u.", "argument 2 is shorter"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "expected"),  # a text of 2^63 bytes
        (b"\x8e\x00\x00\x00\x00\x00\x10\x00\x00.", "expected"),
        (b"K\x01r\xff\xff\xff\xffK\x02h\x00.", "a broken pickle"),  # a memo of 2^32 places
    ],
)
def test_a_broken_pickle_is_a_value_error(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(content)


def test_keys_that_would_take_forever_to_hash_are_passed_over() -> None:
    # A tuple of two of the tuple before, sixty times: its hash visits 2^60 places.
    deep = b")" + b"2\x86" * 60
    assert read(b"}" + deep + b"K\x01sX\x01\x00\x00\x00aK\x02s.") == {"a": 2}


@given(content=CONTENTS, protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_a_damaged_pickle_is_read_or_refused(content: object, protocol: int, data: st.DataObject) -> None:
    damaged = bytearray(pickle.dumps(content, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read(bytes(damaged))
