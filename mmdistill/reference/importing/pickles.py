"""Pickles read as data: imports nothing, and calls nothing that a file names.

The reader is a restricted ``pickle._Unpickler``, the standard library's unpickler in Python. Classes and functions, and
the objects they would make, become an ``OpaqueObject`` that keeps the name. The reader calls only its stand-ins.

The C version, ``pickle.Unpickler``, is not safe here: a subclass cannot replace its memo, buffers, dictionaries and
sets. Measured with an inert ``find_class``, in Python 3.10 and 3.13:

- 8 bytes allocate 2 GiB (``LONG_BINPUT`` with index 2**27);
- 10 bytes allocate 1 GiB (``BINBYTES8`` of that length);
- 126 bytes are hashed without end (a dictionary key: a tuple of the same tuple twice, nested 60 times);
- 420 kB take more than 3 s (dictionary keys: integers of equal hash; the time grows with the square).
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

MAX_PICKLE_BYTES = 4 << 20
"""Reading takes at most 80 bytes of memory and about 1 us per byte. A tracker's pickle has less than 1 MB."""

MAX_TEXT_LENGTH = 300
"""Characters of a dictionary key or a class name. A file can make the reader compare or join them many times."""

MAX_INTEGER_KEY = 999
"""A file can choose integer keys with equal hashes, but not many of them below this."""

_EMPTY = object()

_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, MemoryError),
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class OpaqueObject:
    """Represents a class, a function, or an object that one of them would make.

    Attributes:
        name: of the class or function, as ``module.name``.
        states: the data for the object's attributes or entries.
    """

    name: str
    states: list[object] = field(default_factory=list, compare=False, repr=False)

    def attributes(self) -> Iterator[tuple[str, object]]:
        """Yield names and values of the object's attributes and entries, in the file's order."""
        for state in self.states:
            # An object with __slots__ has a pair of dictionaries.
            for part in state[:2] if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):
                    yield from ((name, value) for name, value in part.items() if isinstance(name, str))


class PickleReader:
    """Reads pickles of protocols 0 to 5 without running anything from them.

    Time and memory are linear in the pickle's length. So sets become lists, dictionaries keep only entries with a plain
    key (see ``is_plain_key``), and calls that reuse the same long content many times are refused.

    Args:
        functions: stand-ins by ``module.name``, called with the file's arguments. They must accept any arguments, and
            may iterate over each list and tuple among them once.
        persistent: called with each persistent id; returns its object. It may iterate over a tuple once. None: a
            pickle with persistent ids is refused.
        limit: maximum position in the stream, in bytes.

    Attributes:
        ignored_classes: names of classes and functions without a stand-in.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., object]] | None = None,
        persistent: Callable[[object], object] | None = None,
        limit: int = MAX_PICKLE_BYTES,
    ) -> None:
        self.limit = limit
        self.functions, self.persistent = functions or {}, persistent or _refuse_persistent_id
        self.ignored_classes: set[str] = set()

    def read(self, stream: IO[bytes]) -> Any:
        """Return the object of the next pickle in a stream, and leave the stream right after it.

        Raises:
            ValueError: the pickle is truncated or broken, or has unsupported content.
        """
        start = stream.tell()
        source = _Source(stream.read(max(self.limit - start, 0)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # about invalid escapes in texts
                content = _DataUnpickler(self, source).load()
        except _ERRORS as error:
            if start + source.tell() >= self.limit and stream.read(1):
                raise ValueError(f"its pickle has more than {self.limit:,} bytes") from error
            problem = "too few objects on the stack" if isinstance(error, IndexError) else error
            raise ValueError(one_line(f"a broken pickle ({type(error).__name__}: {problem})")) from error
        stream.seek(start + source.tell())
        return content


def is_plain_key(key: object) -> bool:
    """Return whether hashing a key is fast: None, a short text, or an integer from 0 to ``MAX_INTEGER_KEY``."""
    if isinstance(key, str | bytes):
        return len(key) <= MAX_TEXT_LENGTH
    return key is None or (isinstance(key, int) and 0 <= key <= MAX_INTEGER_KEY)


def plain_dictionary(pairs: Iterable[Any]) -> dict[Any, Any]:
    """Return a dictionary of the pairs with a plain key."""
    return {key: value for key, value in pairs if is_plain_key(key)}


class _Source(io.BytesIO):
    """A byte stream that refuses to read beyond its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if size is not None and len(content) < size:
            raise EOFError(f"pickle exhausted: expected {size:,} bytes, got {len(content):,}")
        return content


class _Memo:
    """The objects that a pickle refers to by index. The base class's dictionary takes ten times the memory."""

    def __init__(self) -> None:
        self.objects: list[Any] = []

    def __len__(self) -> int:
        return len(self.objects)

    def __setitem__(self, index: int, value: object) -> None:
        self.objects.extend([_EMPTY] * (index + 1 - len(self.objects)))
        self.objects[index] = value

    def __getitem__(self, index: int) -> object:
        if not 0 <= index < len(self.objects) or self.objects[index] is _EMPTY:
            raise ValueError(f"the memo has no object {index}")
        return self.objects[index]


class _DataUnpickler(pickle._Unpickler):
    """Reads one pickle. ``visited`` counts the items in the arguments of its calls."""

    # The base class sets these in load().
    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, reader: PickleReader, source: _Source) -> None:
        super().__init__(source, encoding="latin-1")
        self.reader, self.source, self.memo, self.visited = reader, source, _Memo(), 0

    def find_class(self, module: str, name: str) -> OpaqueObject:
        name = f"{module}.{name}"
        if len(name) > MAX_TEXT_LENGTH:
            raise ValueError(f"expected a class name of at most {MAX_TEXT_LENGTH} characters, got {len(name)}")
        if name not in self.reader.functions:
            self.reader.ignored_classes.add(name)
        return OpaqueObject(name)

    def persistent_load(self, pid: object) -> object:
        self.visit(pid)
        return self.reader.persistent(pid)

    def _instantiate(self, klass: object, args: list[Any]) -> None:  # the base class's hook for OBJ and INST
        self.call(klass, tuple(args))

    def memoize(self, index: int) -> None:
        if not 0 <= index <= self.source.tell():
            raise ValueError(f"the memo cannot have an index {index}")
        self.memo[index] = self.stack[-1]

    def build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], OpaqueObject):
            self.stack[-1].states.append(state)

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def new_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        entries = plain_dictionary(zip(items[::2], items[1::2], strict=True))
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(entries)
        elif isinstance(self.stack[-1], OpaqueObject):
            self.stack[-1].states.append(entries)

    def call(self, function: object, arguments: object, _keywords: object = None) -> None:
        if not isinstance(function, OpaqueObject) or not isinstance(arguments, tuple):
            raise TypeError("a call without a function or arguments")
        stand_in = self.reader.functions.get(function.name)
        if stand_in is None:
            self.append(OpaqueObject(function.name))
            return
        self.visit(arguments)
        for argument in arguments:
            self.visit(argument)
        self.append(stand_in(*arguments))

    def visit(self, content: object) -> None:
        """Count the items that a call may iterate over. Each is a byte or more in the file, unless it is reused."""
        self.visited += len(content) if isinstance(content, list | tuple) else 0
        if self.visited > self.source.tell():
            raise ValueError("its calls use the same content too often")


def _refuse_persistent_id(identity: object) -> object:
    raise ValueError(f"a persistent id is not supported here ({type(identity).__name__})")


class _Handlers(dict[int, Callable[[Any], Any]]):
    """Methods by opcode. An opcode without an entry is refused."""

    def __missing__(self, code: int) -> Callable[[Any], Any]:
        name = next((opcode.name for opcode in pickletools.opcodes if opcode.code == chr(code)), code)
        raise ValueError(f"the pickle opcode {name} is not supported")


_INHERITED = """
    PROTO FRAME STOP MARK POP POP_MARK DUP BINPUT MEMOIZE GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST EMPTY_DICT GLOBAL STACK_GLOBAL PERSID BINPERSID OBJ INST
"""
"""Opcodes whose base method is safe: it makes plain values or empty containers, reads the memo, or calls one of
``find_class``, ``persistent_load`` and ``_instantiate``."""

_BASE = {name: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _INHERITED.split()}

_OWN: dict[str, Callable[[Any], Any]] = {
    "PUT": lambda self: self.memoize(int(self.readline())),
    "LONG_BINPUT": lambda self: self.memoize(int.from_bytes(self.read(4), "little")),
    "BYTEARRAY8": lambda self: self.append(bytearray(self.read(int.from_bytes(self.read(8), "little")))),
    "EMPTY_SET": _BASE["EMPTY_LIST"],
    "FROZENSET": _BASE["LIST"],
    "APPEND": lambda self: self.extend([self.stack.pop()]),
    "APPENDS": lambda self: self.extend(self.pop_mark()),
    "ADDITEMS": lambda self: self.extend(self.pop_mark()),
    "DICT": _DataUnpickler.new_dict,
    "SETITEM": lambda self: self.set_items([self.stack.pop(-2), self.stack.pop()]),
    "SETITEMS": lambda self: self.set_items(self.pop_mark()),
    "REDUCE": lambda self: self.call(self.stack.pop(-2), self.stack.pop()),
    "NEWOBJ": lambda self: self.call(self.stack.pop(-2), self.stack.pop()),
    "NEWOBJ_EX": lambda self: self.call(self.stack.pop(-3), self.stack.pop(-2), self.stack.pop()),
    "BUILD": _DataUnpickler.build,
}

_DataUnpickler.dispatch = _Handlers({getattr(pickle, name)[0]: handler for name, handler in (_BASE | _OWN).items()})
