"""Pickles read as data: nothing is imported, and nothing that a file names is called.

The reader is a restricted ``pickle._Unpickler``, the standard library's reader in Python. Classes and functions, and
the objects made by them, become a ``Foreign``, which keeps the name and no more. The reader calls only its stand-ins.

``pickle.Unpickler``, the same in C, is not safe here: no subclass can replace its memo, buffers, dictionaries and sets.
Measured with inert classes from ``find_class``, in Python 3.10 and 3.13:

- 8 bytes fill 2 GiB of memory (``LONG_BINPUT`` to place 2**27);
- 10 bytes allocate 1 GiB (``BINBYTES8`` of that length);
- 126 bytes are hashed without end (a dictionary's key that is a tuple of the same tuple twice, 60 times over);
- 420 kB take more than 3 s (a dictionary's keys that are integers of the same hash; the time grows with the square).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from mmdistill.toolkit.data_issues import one_line

LONGEST_TEXT = 300
"""Characters of a key or of a class's name, which are compared or joined each time that the file comes back to them."""

LARGEST_KEY = 1000
"""Whoever chooses the integers in a dictionary can make them collide, but not many in so few."""

MAX_PICKLE_BYTES = 4 << 20
"""Reading takes at most 80 bytes of memory and a microsecond for each byte; a tracker's pickle has under a megabyte."""

_NOTHING = object()

_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, MemoryError),
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """What stands for a class, a function, or an object made by one.

    Attributes:
        name: the class's or function's, as ``module.name``.
        states: what the file would set an object's attributes or entries from, as data.
    """

    name: str
    states: list[object] = field(default_factory=list, compare=False, repr=False)

    def attributes(self) -> Iterator[tuple[str, object]]:
        """Yield the names and values that the object would have as attributes or entries, the later ones last."""
        for state in self.states:
            # An object with __slots__ has a pair of dictionaries.
            for part in state[:2] if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):
                    yield from ((name, value) for name, value in part.items() if isinstance(name, str))


class PickleReader:
    """Reads pickles of protocols 0 to 5 without running anything from them.

    Time and memory grow with a pickle's length and no faster: sets come as lists, entries of dictionaries are kept
    where the key is a plain one (see ``is_plain_key``), and calls that use the same long content over and over are
    refused.

    Args:
        functions: stand-ins by ``module.name``, called with the arguments in the file. They must be safe whatever these
            are, and may walk through each list and tuple among them once.
        persistent: called with each persistent id; returns the object that is meant. Without it there may be none. It
            may walk through a tuple once.
        limit: bytes that the stream may have up to the end of its last pickle.

    Attributes:
        foreign: the names of all that was met and has no stand-in.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]] | None = None,
        persistent: Callable[[object], object] | None = None,
        limit: int = MAX_PICKLE_BYTES,
    ) -> None:
        self.limit = limit
        self.functions, self.persistent = functions or {}, persistent or _no_persistent_id
        self.foreign: set[str] = set()

    def read(self, stream: IO[bytes]) -> Any:
        """Return the object of the next pickle in a stream, which is left right behind it.

        Raises:
            ValueError: it isn't a whole pickle, or has what no file needs.
        """
        start = stream.tell()
        source = _Source(stream.read(max(self.limit - start, 0)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in texts
                found = _DataUnpickler(self, source).load()
        except _ERRORS as error:
            if start + source.tell() >= self.limit and stream.read(1):
                raise ValueError(f"its pickle has more than {self.limit:,} bytes") from error
            problem = "too few objects on the stack" if isinstance(error, IndexError) else error
            raise ValueError(one_line(f"a broken pickle ({type(error).__name__}: {problem})")) from error
        stream.seek(start + source.tell())
        return found


def is_plain_key(key: object) -> bool:
    """Return whether a key is hashed and compared at once: None, a short text, an integer from 0 to below 1000."""
    if isinstance(key, str | bytes):
        return len(key) <= LONGEST_TEXT
    return key is None or (isinstance(key, int) and 0 <= key < LARGEST_KEY)


def plain_dictionary(pairs: Iterable[Any]) -> dict[Any, Any]:
    """Return a dictionary of those pairs that have a plain key."""
    return {key: value for key, value in pairs if is_plain_key(key)}


class _Source(io.BytesIO):
    """Bytes. Reading more than there are is an error; the base class returns what is left."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if size is not None and len(content) < size:
            raise EOFError(f"pickle exhausted: expected {size:,} bytes, got {len(content):,}")
        return content


class _Memo:
    """Objects that a pickle refers to by number. A list, because a dictionary takes ten times the memory."""

    def __init__(self) -> None:
        self.objects: list[Any] = []

    def __len__(self) -> int:
        return len(self.objects)

    def __setitem__(self, place: int, value: object) -> None:
        self.objects.extend([_NOTHING] * (place + 1 - len(self.objects)))
        self.objects[place] = value

    def __getitem__(self, place: int) -> object:
        if not 0 <= place < len(self.objects) or self.objects[place] is _NOTHING:
            raise ValueError(f"the memo has nothing in place {place}")
        return self.objects[place]


class _DataUnpickler(pickle._Unpickler):
    """Reads one pickle. ``walked`` counts the items in the arguments of its calls."""

    # The base class sets these in load().
    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, reader: PickleReader, source: _Source) -> None:
        super().__init__(source, encoding="latin-1")
        self.reader, self.source, self.memo, self.walked = reader, source, _Memo(), 0

    def find_class(self, module: str, name: str) -> Foreign:
        name = f"{module}.{name}"
        if len(name) > LONGEST_TEXT:
            raise ValueError(f"a class's name of {len(name)} characters")
        if name not in self.reader.functions:
            self.reader.foreign.add(name)
        return Foreign(name)

    def persistent_load(self, pid: object) -> object:
        self.walk(pid)
        return self.reader.persistent(pid)

    def remember(self, place: int) -> None:
        if not 0 <= place <= self.source.tell():
            raise ValueError(f"the memo has no place {place}")
        self.memo[place] = self.stack[-1]

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def load_obj(self) -> None:
        function, *arguments = self.pop_mark()
        self.call(function, tuple(arguments))

    def load_inst(self) -> None:
        module, name = (self.source.readline()[:-1].decode() for _ in range(2))
        self.call(self.find_class(module, name), tuple(self.pop_mark()))

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Foreign):
            self.stack[-1].states.append(state)

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        entries = plain_dictionary(zip(items[::2], items[1::2], strict=True))
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(entries)
        elif isinstance(self.stack[-1], Foreign):
            self.stack[-1].states.append(entries)

    def call(self, function: object, arguments: object, _keywords: object = None) -> None:
        if not isinstance(function, Foreign) or not isinstance(arguments, tuple):
            raise TypeError("a call without function or arguments")
        stand_in = self.reader.functions.get(function.name)
        if stand_in is None:
            self.append(Foreign(function.name))
            return
        self.walk(arguments)
        for argument in arguments:
            self.walk(argument)
        self.append(stand_in(*arguments))

    def walk(self, content: object) -> None:
        """Count the items that a call may walk through: each takes a byte in the file, so honest calls stay below."""
        self.walked += len(content) if isinstance(content, list | tuple) else 0
        if self.walked > self.source.tell():
            raise ValueError("its calls use the same content over and over")


def _no_persistent_id(identity: object) -> object:
    raise ValueError(f"a persistent id is out of place ({type(identity).__name__})")


class _Handlers(dict[int, Callable[[Any], Any]]):
    """Methods by opcode. An opcode without an entry is refused."""

    def __missing__(self, code: int) -> Callable[[Any], Any]:
        name = next((opcode.name for opcode in pickletools.opcodes if opcode.code == chr(code)), code)
        raise ValueError(f"the pickle opcode {name} is out of place")


_INHERITED = """
    PROTO STOP MARK POP POP_MARK DUP BINPUT MEMOIZE GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST EMPTY_DICT GLOBAL STACK_GLOBAL PERSID BINPERSID
"""
"""Opcodes whose base method is safe: it makes plain values or empty containers, reads the memo, or calls
``find_class`` or ``persistent_load``."""

_BASE = {name: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _INHERITED.split()}

_OWN: dict[str, Callable[[Any], Any]] = {
    "FRAME": lambda self: self.read(8),  # a length for reading ahead, which is not needed
    "PUT": lambda self: self.remember(int(self.source.readline())),
    "LONG_BINPUT": lambda self: self.remember(int.from_bytes(self.read(4), "little")),
    "BYTEARRAY8": lambda self: self.append(bytearray(self.read(int.from_bytes(self.read(8), "little")))),
    "EMPTY_SET": _BASE["EMPTY_LIST"],
    "FROZENSET": _BASE["LIST"],
    "APPEND": lambda self: self.extend([self.stack.pop()]),
    "APPENDS": lambda self: self.extend(self.pop_mark()),
    "ADDITEMS": lambda self: self.extend(self.pop_mark()),
    "DICT": _DataUnpickler.load_dict,
    "SETITEM": lambda self: self.set_items([self.stack.pop(-2), self.stack.pop()]),
    "SETITEMS": lambda self: self.set_items(self.pop_mark()),
    "REDUCE": lambda self: self.call(self.stack.pop(-2), self.stack.pop()),
    "NEWOBJ": lambda self: self.call(self.stack.pop(-2), self.stack.pop()),
    "NEWOBJ_EX": lambda self: self.call(self.stack.pop(-3), self.stack.pop(-2), self.stack.pop()),
    "OBJ": _DataUnpickler.load_obj,
    "INST": _DataUnpickler.load_inst,
    "BUILD": _DataUnpickler.load_build,
}

_DataUnpickler.dispatch = _Handlers({getattr(pickle, name)[0]: handler for name, handler in (_BASE | _OWN).items()})
