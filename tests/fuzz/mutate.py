"""Damaged files from whole ones: bytes, values of JSON, arrays of an npz."""

from __future__ import annotations

import contextlib
import io
import json
import random
import warnings
import zipfile
from typing import Any

import numpy as np

TOKENS = (
    b"NaN", b"Infinity", b"-1", b"1e999", b"1e-300", b"9" * 5000, b"null", b"[]", b"{}", b"true", b'""',
    b'"../x"', b'"\\ud800"', b'"\\u0000"', b"[" * 3000, b"\xff\xfe", b"\0", b"\n", b"\r", b"\xe2\x80\xa8",
    b"=", b"'", b'"', b"0x10", b"-0", b"1_0", b"\x80\x04", b"PK\x03\x04", b"cos\nsystem\n", b"#EXTM3U",
    b"file:///etc/passwd",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**63, 10**400, -0.0, 1e308, float("nan"), float("inf"), "", "\0", "a/../../b",
    "\ud800", "x" * 300, "²", [], [[]], {}, {"a": {}}, [0] * 999, "/dev/zero", "1e9", "-1",
)  # fmt: skip
NUMBERS = (np.nan, np.inf, -np.inf, -1.0, 1e300, 1e-300, 0.0, 2.0**63)


def mutate(seeds: list[bytes], draw: random.Random) -> bytes:
    """One of ``seeds``, changed one to eight times in one of the ways."""
    content = draw.choice(seeds)
    ways = [_bytes]
    if content[:2] == b"PK" and draw.random() < 0.5:
        ways = [_members]
    elif content.lstrip()[:1] in (b"{", b"[") and draw.random() < 0.7:
        ways = [_values]
    for _ in range(1 << draw.randrange(4)):
        content = draw.choice(ways)(content, draw)
    return content


def _bytes(content: bytes, draw: random.Random) -> bytes:
    made = bytearray(content)
    at = draw.randrange(len(made) + 1)
    length = min(1 << draw.randrange(10), len(made) - at)
    way = draw.randrange(7)
    if way == 0 and at < len(made):
        made[at] ^= 1 << draw.randrange(8)
    elif way == 1 and at < len(made):
        made[at] = draw.choice((0, 1, 127, 128, 255))
    elif way == 2:
        del made[at : at + length]
    elif way == 3:
        made[at:at] = made[at : at + length] * draw.randrange(1, 4)
    elif way == 4:
        made[at : at + draw.choice((0, 1, 4))] = draw.choice(TOKENS)
    elif way == 5:
        made[at : at + length] = draw.randbytes(length)
    else:
        del made[at:]
    return bytes(made)


def _values(content: bytes, draw: random.Random) -> bytes:
    """One value of one line of JSON replaced, or one key of it."""
    lines = content.split(b"\n")
    number = draw.randrange(len(lines))
    try:
        top = json.loads(lines[number])
    except (ValueError, RecursionError):
        return _bytes(content, draw)
    holder: Any = {"": top}
    while True:
        key = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if not inner or not isinstance(inner, dict | list) or draw.random() < 0.2:
            break
        holder = inner
    if isinstance(holder, dict) and "" not in holder and draw.random() < 0.2:
        holder[draw.choice(("", "id", "x", key + "s"))] = holder.pop(key)
    else:
        holder[key] = draw.choice(VALUES)
        top = holder[""] if isinstance(holder, dict) and holder.keys() == {""} else top
    try:
        lines[number] = json.dumps(top).encode()
    except (ValueError, UnicodeEncodeError):
        return _bytes(content, draw)
    return b"\n".join(lines)


def _members(content: bytes, draw: random.Random) -> bytes:
    """An archive with one array of another shape, kind or value, under another name, or without it."""
    try:
        with np.load(io.BytesIO(content)) as file:
            # A member that is no array comes as its bytes.
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception:
        return _bytes(content, draw)
    if not arrays:
        return _bytes(content, draw)
    name = draw.choice(list(arrays))
    array, way = arrays.pop(name), draw.randrange(6)
    with np.errstate(all="ignore"):
        if way == 1 and array.size and array.dtype.kind == "f":
            array = array.copy()
            array.flat[draw.randrange(array.size)] = draw.choice(NUMBERS)
        elif way == 2:
            # Text may be no number, or one too large.
            with contextlib.suppress(ValueError, OverflowError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the imaginary part goes
                array = array.astype(draw.choice(("f2", "f8", "i1", "u8", "c8", "U3", "?")))
        elif way == 3:
            flat = array.reshape(-1)
            array = draw.choice((array[..., None], flat, flat[:0], np.array(0), array[None]))
        elif way == 4:
            array = np.array(draw.choice(("a", "", "\0", -1, 0, 10**9, np.nan, np.inf)))
        elif way == 5:
            name = draw.choice(("x", "../x", name + "s", "", "joints"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for key, value in ({**arrays, name: array} if way else arrays).items():
            member = io.BytesIO()
            np.save(member, value, allow_pickle=False)
            archive.writestr(f"{key}.npy", member.getvalue())
    return made.getvalue()
