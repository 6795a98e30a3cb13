"""Pickles read as data: plain content is unchanged, and nothing is run."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.importing.pickles import MAX_TEXT_LENGTH, OpaqueObject, PickleReader

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.none() | st.booleans() | st.integers(0, 999) | st.text()
CONTENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=20,
)


def read(content: bytes) -> Any:
    return PickleReader().read(io.BytesIO(content))


@given(content=CONTENTS, protocol=st.sampled_from(PROTOCOLS))
def test_plain_content_round_trip(content: object, protocol: int) -> None:
    assert read(pickle.dumps(content, protocol)) == content


@given(content=st.binary(max_size=300) | st.binary(max_size=20).map(bytearray))
def test_bytes_round_trip(content: bytes | bytearray) -> None:
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


def test_object_identity_is_kept() -> None:
    shared: list[Any] = [1]
    knot: list[Any] = [shared, shared]
    knot.append(knot)
    for protocol in PROTOCOLS:
        found = read(pickle.dumps(knot, protocol))
        assert found[0] is found[1]
        assert found[2] is found


def test_sets_become_lists() -> None:
    assert sorted(read(pickle.dumps({3, 1}, 4))) == [1, 3]
    assert sorted(read(pickle.dumps(frozenset({3, 1}), 4))) == [1, 3]


def test_the_stream_is_left_after_the_pickle() -> None:
    stream = io.BytesIO(pickle.dumps("first", 2) + pickle.dumps(["second"], 4) + b"rest")
    reader = PickleReader()
    assert [reader.read(stream), reader.read(stream), stream.read()] == ["first", ["second"], b"rest"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_named_and_stand_ins_called(protocol: int) -> None:
    content = pickle.dumps([OrderedDict(a=1), Path, complex(1, 2)], protocol)
    reader = PickleReader({"collections.OrderedDict": lambda *_: {}})
    ordered, path, number = reader.read(io.BytesIO(content))
    assert ordered == {"a": 1}
    assert path == OpaqueObject(f"{Path.__module__}.Path")
    assert number == OpaqueObject("builtins.complex" if protocol > 2 else "__builtin__.complex")
    assert reader.ignored_classes == {path.name, number.name}


class Holder:
    """Has attributes."""


class Slots:
    __slots__ = ("second",)


class SlotsAndMore(Slots):
    """Has a slot and attributes."""


class Entries(OrderedDict):  # type: ignore[type-arg]
    """Has entries and attributes."""


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_attributes_and_entries_of_objects_are_kept_as_data(protocol: int) -> None:
    holder, slots, entries = Holder(), SlotsAndMore(), Entries(first=1)
    holder.first, holder.itself, holder.inner = 1, holder, entries  # type: ignore[attr-defined]
    slots.first, slots.second = 1, "two"  # type: ignore[attr-defined]
    entries.second = "two"  # type: ignore[attr-defined]
    found = read(pickle.dumps([holder, slots, entries], protocol))
    assert [type(each) for each in found] == [OpaqueObject] * 3
    attributes = dict(found[0].attributes())
    assert attributes == {"first": 1, "itself": found[0], "inner": found[2]}
    assert attributes["inner"] is found[2]
    for each in found[1:]:
        assert sorted(each.attributes()) == [("first", 1), ("second", "two")]


def test_the_later_state_of_an_object_comes_last() -> None:
    found = read(b"\x80\x02cx\ny\n)\x81}X\x01\x00\x00\x00aK\x01sb}X\x01\x00\x00\x00aK\x02sbNb.")
    assert list(found.attributes()) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("opcode", [b"]", b"}", b"]\x94", b"N0"])
def test_a_pickle_beyond_the_limit_is_not_read_on(opcode: bytes) -> None:
    with pytest.raises(ValueError, match="its pickle has more than 1,000 bytes"):
        PickleReader(limit=1000).read(io.BytesIO(b"\x80\x04" + opcode * 1000 + b"."))


class Does:
    """An object that is pickled as a call."""

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
        (b"h\x07.", "the memo has no object 7"),
        (b"K\x01K\x02R.", "a call without a function or arguments"),
        (b"cos\nsystem\nK\x02R.", "a call without a function or arguments"),
        (b"K\x01K\x02\x93.", "a broken pickle"),
        (b"\x80\x02\x82\x01.", "opcode EXT1 is not supported"),
        (b"\x83\x01\x00.", "opcode EXT2 is not supported"),
        (b"\x84\x01\x00\x00\x00.", "opcode EXT4 is not supported"),
        (b"\x97.", "opcode NEXT_BUFFER is not supported"),
        (b"N\x98.", "opcode READONLY_BUFFER is not supported"),
        (b"\xff.", "opcode 255 is not supported"),
        (b"Pname\n.", "a persistent id is not supported here"),
        (b"}(K\x01u.", "argument 2 is shorter"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "expected"),  # a text of 2^63 bytes
        (b"\x8e\x00\x00\x00\x00\x00\x10\x00\x00.", "expected"),
        (b"K\x01r\xff\xff\xff\xff.", "the memo cannot have an index 4294967295"),
        (
            b"K\x01p2305843009213693951\n.",
            "the memo cannot have an index 2305843009213693951",
        ),  # collides in a dict
        (b"K\x01p-1\n.", "the memo cannot have an index -1"),
        (b"K\x01q\x02h\x01.", "the memo has no object 1"),
        (b"K\x01q\x02g-1\n.", "the memo has no object -1"),
        (b"c" + b"x" * 200 + b"\n" + b"y" * 100 + b"\n.", "expected a class name of at most 300 characters, got 301"),
    ],
)
def test_a_broken_pickle_is_a_value_error(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(content)


DEEP = b")" + b"2\x86" * 60
"""A tuple of the same tuple twice, nested 60 times: its hash visits 2^60 items."""


def test_keys_with_endless_hashing_are_ignored() -> None:
    assert read(b"}" + DEEP + b"K\x01sX\x01\x00\x00\x00aK\x02s.") == {"a": 2}
    assert read(b"(" + DEEP + b"K\x01X\x01\x00\x00\x00aK\x02d.") == {"a": 2}


@pytest.mark.parametrize("content", [b"\x8f(K\x01" + DEEP + b"\x90.", b"(K\x01" + DEEP + b"\x91."])
def test_items_of_sets_are_not_hashed(content: bytes) -> None:
    items = read(content)
    assert len(items) == 2
    assert items[0] == 1


def peak_of(content: bytes) -> int:
    """Peak memory of reading in bytes, whether the pickle is refused or not."""
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


GIB = (1 << 30).to_bytes(8, "little")


@pytest.mark.parametrize(
    "content",
    [
        b"T" + GIB[:4] + b".",
        b"X" + GIB[:4] + b".",
        b"B" + GIB[:4] + b".",
        b"\x8b" + GIB[:4] + b".",
        b"\x8d" + GIB + b".",
        b"\x8e" + GIB + b".",
        b"\x96" + GIB + b".",
        b"\x95" + GIB + b"N.",
        b"Nr" + GIB[:4] + b".",
        b"Np1073741824\n.",
    ],
)
def test_a_stated_size_is_not_allocated(content: bytes) -> None:
    read(b"N.")
    assert peak_of(content) < 20_000


@pytest.mark.parametrize("opcode", [b"]", b"}", b"(", b")", b"\x85", b"2", b"\x94", b"]\x94", b"h\x00)\x81", b"}b"])
def test_memory_is_at_most_eighty_bytes_for_each_byte(opcode: bytes) -> None:
    content = b"cx\ny\nq\x00" + opcode * (20_000 // len(opcode)) + b"N."
    assert peak_of(content) < 85 * len(content)


def test_the_message_about_a_long_content_is_short() -> None:
    with pytest.raises(ValueError, match="could not convert string to float") as raised:
        read(b"F" + b"x" * 100_000 + b"\n.")
    assert len(str(raised.value)) <= 300


class Counted(int):
    """An integer that counts how often it was hashed."""

    hashed = 0

    def __hash__(self) -> int:
        Counted.hashed += 1
        return super().__hash__()


@pytest.mark.parametrize("key", [-1, 1000, 2**61 - 1, 0.5, 2.0**61, (), "x" * (MAX_TEXT_LENGTH + 1)])
def test_other_keys_are_ignored(key: object) -> None:
    content = {"before": 1, key: 2, "after": 3}
    for protocol in (2, 4):
        assert read(pickle.dumps(content, protocol)) == {"before": 1, "after": 3}


def test_keys_that_could_collide_are_not_even_hashed() -> None:
    reader = PickleReader(persistent=lambda _: Counted(2**61 - 1))
    assert reader.read(io.BytesIO(b"}" + b"NQNs" * 100 + b".")) == {}
    assert Counted.hashed == 0
    assert PickleReader(persistent=lambda _: Counted(7)).read(io.BytesIO(b"}NQNs.")) == {7: None}
    assert Counted.hashed > 0


def text(content: str) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content.encode()


def test_long_class_names_are_refused() -> None:
    half = MAX_TEXT_LENGTH // 2
    named = b"\x80\x04]" + text("m" * half) + b"q\x000" + text("n" * half) + b"q\x010" + b"h\x00h\x01\x93a" * 9 + b"."
    with pytest.raises(ValueError, match="expected a class name of at most 300 characters, got 301"):
        read(named)
    assert len(read(named.replace(text("n" * half), text("n" * (half - 1))))) == 9


def call_of(arguments: bytes) -> bytes:
    """A call of ``stand.in`` with the arguments in the memo at index 0; the result is dropped."""
    return b"cstand\nin\n" + arguments + b"R0"


@pytest.mark.parametrize("kind", [b"t", b"l"], ids=["arguments", "an argument"])
def test_calls_visit_no_more_items_than_bytes(kind: bytes) -> None:
    seen: list[int] = []
    reader = PickleReader({"stand.in": lambda *arguments: seen.append(sum(map(len, map(str, arguments))))})
    made = b"(" + b"K\x01" * 1000 + kind + b"q\x000"
    arguments = b"h\x00" if kind == b"t" else b"h\x00\x85"
    reader.read(io.BytesIO(made + call_of(arguments) + b"N."))  # what is used once is never too much
    seen.clear()
    with pytest.raises(ValueError, match="use the same content too often"):
        reader.read(io.BytesIO(made + call_of(arguments) * 100 + b"N."))
    assert 1 <= len(seen) <= 4  # 2000 bytes of items, 1500 of calls


def test_persistent_ids_visit_no_more_items_than_bytes() -> None:
    seen: list[object] = []
    content = b"(" + b"K\x01" * 1000 + b"tq\x000" + b"h\x00Q0" * 100 + b"N."
    with pytest.raises(ValueError, match="use the same content too often"):
        PickleReader(persistent=seen.append).read(io.BytesIO(content))
    assert len(seen) == 2


@given(pairs=st.lists(st.tuples(st.text(), st.integers())), protocol=st.sampled_from(PROTOCOLS))
def test_honest_pickles_stay_below_the_limit(pairs: list[tuple[str, int]], protocol: int) -> None:
    content = [Does(OrderedDict, pairs), Does(OrderedDict, [list(pair) for pair in pairs]), OrderedDict(pairs)]
    reader = PickleReader({"collections.OrderedDict": lambda pairs=(): dict(pairs)})
    assert reader.read(io.BytesIO(pickle.dumps(content, protocol))) == [dict(pairs)] * 3


@given(content=CONTENTS, protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_a_damaged_pickle_is_read_or_refused(content: object, protocol: int, data: st.DataObject) -> None:
    damaged = bytearray(pickle.dumps(content, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read(bytes(damaged))
