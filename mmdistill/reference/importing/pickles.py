"""Pickles read as data: nothing is imported, and nothing that a file names is called.

A pickle is a program for a stack machine whose opcodes the standard library's ``pickletools`` documents and parses. The
machine here builds containers and plain values. Classes and functions, and whatever they would have made, become a
``Foreign``, which keeps the name and no more; but for the few functions that the reader brings its own stand-ins for.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

LONGEST_TEXT = 300
"""Characters of a key or of a class's name, which are compared or joined each time that the file comes back to them."""

LARGEST_KEY = 1000
"""Whoever chooses the integers in a dictionary can make them collide, but not many in so few."""

MAX_PICKLE_BYTES = 4 << 20
"""Reading takes some 70 bytes of memory and a microsecond for each byte; a tracker's pickle has under a megabyte."""

_NOTHING = object()


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
        machine = _Machine(self)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in texts
                for opcode, argument, position in pickletools.genops(stream):
                    machine.position = position or 0
                    if machine.position > self.limit:
                        raise ValueError(f"its pickle has more than {self.limit:,} bytes")
                    machine.step(opcode.name, argument)
            return machine.stack.pop()
        except (IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise ValueError(f"a broken pickle ({type(error).__name__}: {error})") from error


def is_plain_key(key: object) -> bool:
    """Return whether a key is hashed and compared at once: None, a short text, an integer from 0 to below 1000."""
    if isinstance(key, str | bytes):
        return len(key) <= LONGEST_TEXT
    return key is None or (isinstance(key, int) and 0 <= key < LARGEST_KEY)


def plain_dictionary(pairs: Iterable[Any]) -> dict[Any, Any]:
    """Return a dictionary of those pairs that have a plain key."""
    return {key: value for key, value in pairs if is_plain_key(key)}


class _Machine:
    """The state while one pickle is read: at ``position`` in the file, after ``walked`` items in calls."""

    def __init__(self, reader: PickleReader) -> None:
        self.reader = reader
        self.stack: list[Any] = []
        self.under_marks: list[list[Any]] = []
        self.memo: list[Any] = []
        self.position = self.walked = 0

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.remember(argument)
            case "MEMOIZE":
                self.remember(len(self.memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.recall(argument))
            case "MARK":
                self.under_marks.append(stack)
                self.stack = []
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self.since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.replace(int(opcode[-1]), tuple)
            case "TUPLE":
                items = self.since_mark()
                self.stack.append(tuple(items))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST" | "FROZENSET":
                items = self.since_mark()
                self.stack.append(items)
            case "APPEND":
                self.extend([stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self.extend(self.since_mark())
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self.since_mark()
                self.stack.append({})
                self.set_items(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self.set_items([key, value])
            case "SETITEMS":
                self.set_items(self.since_mark())
            case "GLOBAL":
                stack.append(self.named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                self.replace(2, lambda names: self.named(".".join(names)))
            case "REDUCE" | "NEWOBJ":
                self.replace(2, lambda call: self.called(*call))
            case "NEWOBJ_EX":
                self.replace(3, lambda call: self.called(*call[:2]))
            case "OBJ":
                function, *arguments = self.since_mark()
                self.stack.append(self.called(function, tuple(arguments)))
            case "INST":
                arguments = self.since_mark()
                self.stack.append(self.called(self.named(argument.replace(" ", ".", 1)), tuple(arguments)))
            case "BUILD":
                state = stack.pop()
                if stack and isinstance(stack[-1], Foreign):
                    stack[-1].states.append(state)
            case "PERSID":
                stack.append(self.identified(argument))
            case "BINPERSID":
                stack.append(self.identified(stack.pop()))
            case _:
                raise ValueError(f"the pickle opcode {opcode} is out of place")

    def remember(self, place: int) -> None:
        if not 0 <= place <= self.position:
            raise ValueError(f"the memo has no place {place}")
        self.memo.extend([_NOTHING] * (place + 1 - len(self.memo)))
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> object:
        if not 0 <= place < len(self.memo) or self.memo[place] is _NOTHING:
            raise ValueError(f"the memo has nothing in place {place}")
        return self.memo[place]

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.under_marks.pop()
        return items

    def replace(self, count: int, make: Callable[[list[Any]], object]) -> None:
        """Replace the topmost objects by one made of them."""
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError("too few objects on the stack")
        self.stack[-count:] = [make(items)]

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        entries = plain_dictionary(zip(items[::2], items[1::2], strict=True))
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(entries)
        elif isinstance(self.stack[-1], Foreign):
            self.stack[-1].states.append(entries)

    def named(self, name: str) -> Foreign:
        if len(name) > LONGEST_TEXT:
            raise ValueError(f"a class's name of {len(name)} characters")
        if name not in self.reader.functions:
            self.reader.foreign.add(name)
        return Foreign(name)

    def called(self, function: object, arguments: object) -> object:
        if not isinstance(function, Foreign) or not isinstance(arguments, tuple):
            raise TypeError("a call without function or arguments")
        stand_in = self.reader.functions.get(function.name)
        if stand_in is None:
            return Foreign(function.name)
        self.walk(arguments)
        for argument in arguments:
            self.walk(argument)
        return stand_in(*arguments)

    def identified(self, identity: object) -> object:
        self.walk(identity)
        return self.reader.persistent(identity)

    def walk(self, content: object) -> None:
        """Count the items that a call may walk through: each takes a byte in the file, so honest calls stay below."""
        self.walked += len(content) if isinstance(content, list | tuple) else 0
        if self.walked > self.position:
            raise ValueError("its calls use the same content over and over")


def _no_persistent_id(identity: object) -> object:
    raise ValueError(f"a persistent id is out of place ({type(identity).__name__})")
