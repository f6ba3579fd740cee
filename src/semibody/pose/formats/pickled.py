"""The pickle in a published pose file, read without unpickling.

``numpy.save`` writes a dict of arrays as a pickle, which is a small program; an unpickler runs it, and
even one restricted to numpy's own names can be made to rewrite a dtype so that bytes are used as pointers.
Here the program is not run: ``read_pickle`` follows the instructions that make numbers, strings,
tuples, lists, dicts and arrays of plain numbers, makes those itself, and refuses every other instruction
and name. An array is a view of the bytes in the file, so what is read takes no more memory than the file.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from semibody.types import SemibodyError

LARGEST_PICKLE = 2 * 2**20
"""Bytes of a pickled pose; one person's has about 5 kB."""
_DTYPE = re.compile(r"[<>|=]?([biuf][1248]|O8?)")
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT = {(module, "_reconstruct") for module in _ARRAYS}
_SCALAR = {(module, "scalar") for module in _ARRAYS}
_FROM_BUFFER = {(module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")}
_DTYPE_NAME, _ARRAY_NAME, _ENCODE = ("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode")
_KNOWN = _RECONSTRUCT | _SCALAR | _FROM_BUFFER | {_DTYPE_NAME, _ARRAY_NAME, _ENCODE}
_MARK = object()
_MOST_ENCODED = 2 * LARGEST_PICKLE
"""Bytes that may come of decoded text: the one instruction whose result is not in the file already."""


@dataclass(frozen=True)
class _Name:
    """A name that the program mentions; nothing is imported."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass
class _Dtype:
    """A dtype in the making: its code, and its byte order once that is known."""

    code: str
    order: str = "="

    def plain(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


@dataclass
class _Array:
    """An array in the making, and its keys in the program's memo."""

    memo: list[int] = field(default_factory=list)


class _RefusedError(Exception):
    pass


def read_pickle(content: bytes, source: str) -> Any:
    """The value of a pickle made of numbers, strings, containers and plain arrays.

    Raises SemibodyError, naming ``source``, for a damaged pickle and for one that asks for anything else.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except _RefusedError as refused:
        raise SemibodyError(
            f"{source}: {refused}, which a pose file must not; do not use this file"
        ) from None
    except Exception as error:  # a damaged program may fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise SemibodyError(f"{source}: not a pose file that can be read ({reason})") from None
    raise SemibodyError(f"{source}: not a pose file that can be read (it ends too early)")


class _Machine:
    """A stack and a memo, as pickle's instructions expect them."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def result(self) -> Any:
        (value,) = self._stack
        return value

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction. Raises _RefusedError for those that a pose file does not need."""
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _METHODS:
            _METHODS[name](self, argument)
        else:
            raise _RefusedError(f"uses pickle's {name}")

    def since_mark(self, _: Any = None) -> list[Any]:
        """Take everything off the stack down to the last mark."""
        at = len(self._stack) - 1 - next(i for i, v in enumerate(reversed(self._stack)) if v is _MARK)
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def pop(self, count: int) -> list[Any]:
        if count > len(self._stack) or any(value is _MARK for value in self._stack[-count:]):
            raise ValueError("the pickle's stack is empty")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def drop(self, _: Any) -> None:
        self._stack.pop()

    def duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def remember(self, number: int | None) -> None:
        number = len(self._memo) if number is None else number
        value = self._stack[-1]
        if isinstance(value, _Array):
            value.memo.append(number)
        self._memo[number] = value

    def recall(self, number: int) -> None:
        self._stack.append(self._memo[number])

    def append(self, values: list[Any]) -> None:
        self._last(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self._last(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):
                raise ValueError("a dict's key is not text")
            target[key] = value

    def make_dict(self, values: list[Any]) -> None:
        self._stack.append({})
        self.set_items(values)

    def _last(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"the pickle fills something that is not a {kind.__name__}")
        return self._stack[-1]

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        if (module, name) not in _KNOWN:
            raise _RefusedError(f"asks to load {module}.{name}")
        self._stack.append(_Name(module, name))

    def call(self, _: Any) -> None:
        """REDUCE: the few calls by which numpy describes its dtypes, arrays and numbers."""
        function, arguments = self.pop(2)
        key = function.key if isinstance(function, _Name) else None
        if key in _RECONSTRUCT and arguments[0] == _Name(*_ARRAY_NAME):
            self._stack.append(_Array())
        elif key == _DTYPE_NAME:
            self._stack.append(_dtype(arguments))
        elif key in _SCALAR:
            dtype, content = arguments
            self._stack.append(_array((), dtype, "C", content)[()])
        elif key in _FROM_BUFFER:
            content, dtype, shape, order = arguments
            self._stack.append(_array(shape, dtype, order, content))
        elif key == _ENCODE and arguments[1:] in ((), ("latin1",), ("latin-1",), ("utf-8",)):
            encoded = arguments[0].encode(*arguments[1:])
            self._encoded += len(encoded)
            if self._encoded > _MOST_ENCODED:
                raise ValueError("too much text")
            self._stack.append(encoded)
        else:
            raise _RefusedError("calls something that is neither array nor number")

    def build(self, _: Any) -> None:
        """BUILD: an array gets its content, a dtype its byte order; nothing else has a state."""
        state = self.pop(1)[0]
        target = self._stack[-1]
        if isinstance(target, _Dtype):
            _set_order(target, state)
        elif isinstance(target, _Array):
            finished = _finished(state)
            self._stack[-1] = finished
            for number in target.memo:
                self._memo[number] = finished
        else:
            raise _RefusedError("sets the state of something that is no array")


def _dtype(arguments: Any) -> _Dtype:
    code = arguments[0]
    code = code.decode("ascii") if isinstance(code, bytes) else code
    match = _DTYPE.fullmatch(code) if isinstance(code, str) else None
    if match is None:
        raise _RefusedError("holds an array of something that is no number")
    return _Dtype(match[1][:1] if match[1].startswith("O") else match[1], code[0] if code[0] in "<>" else "=")


def _set_order(dtype: _Dtype, state: Any) -> None:
    """numpy's state of a dtype: version, byte order, subarray, names, fields, size, alignment, flags.

    Only the byte order of plain numbers is of use. Subarrays, names and fields are refused, and what the
    state gives as sizes and flags is never trusted.
    """
    if not isinstance(state, tuple) or len(state) < 8 or any(part is not None for part in state[2:5]):
        raise _RefusedError("describes an array with fields")
    order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
    if order not in ("<", ">", "|", "="):
        raise ValueError("unknown byte order")
    dtype.order = "=" if order == "|" else order


def _finished(state: Any) -> Any:
    """The array of numpy's state (version, shape, dtype, Fortran order, content).

    A single object, by which a dict is saved as an array, is given as it is.
    """
    _, shape, dtype, fortran, content = state
    if isinstance(dtype, _Dtype) and dtype.code == "O":
        if shape != () or not isinstance(content, list):
            raise ValueError("an array of several objects")
        (value,) = content
        return value
    return _array(shape, dtype, "F" if fortran else "C", content)


def _array(shape: Any, dtype: Any, order: Any, content: Any) -> Any:
    """A read-only array over ``content``, if that has exactly the bytes it needs."""
    if not isinstance(dtype, _Dtype) or dtype.code == "O" or order not in ("C", "F"):
        raise _RefusedError("holds an array of something that is no number")
    content = content.encode("latin-1") if isinstance(content, str) else content
    plain = dtype.plain()
    sides = [shape] if isinstance(shape, int) else list(shape)
    fits = all(type(side) is int and side >= 0 for side in sides) and isinstance(content, bytes | bytearray)
    if not fits or math.prod(sides) * plain.itemsize != len(content):
        raise ValueError("an array's size is not that of its content")
    return np.ndarray(sides, plain, bytes(content) or b"\0", order=order)


_IGNORED = {"PROTO", "FRAME"}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_METHODS: dict[str, Callable[[_Machine, Any], Any]] = {
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "DICT": lambda machine, _: machine.make_dict(machine.since_mark()),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "POP": _Machine.drop,
    "POP_MARK": _Machine.since_mark,
    "DUP": _Machine.duplicate,
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.pop(2)),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
