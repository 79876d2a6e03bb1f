"""Malformed inputs by mutation of good ones, the same for the same seed."""

import json
import random
import string
from collections.abc import Iterator
from typing import Any, Final

_INTEGERS: Final = (0, 1, -1, 2**31, 2**53, 2**63, 2**64, 2**256, -(2**255), 10**400)
_TEXTS: Final = (
    "",
    "0x",
    "0x0",
    "0xzz",
    "0x" + "f" * 64,
    "0x" + "f" * 65,
    "-0x1",
    "null",
    "\x00",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "٣",
    "9" * 5_000,
    "../../etc/passwd",
    "a" * 70_000,
)
_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0.5,
    -0.0,
    1e308,
    [],
    {},
    [[]],
    [None],
    {"": None},
)
_TOKENS: Final = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"9" * 5_000,
    b"inf",
    b"nan",
    b"[" * 3_000,
    b"{" * 3_000,
    b"{}," * 3_000,
    b'"\\ud800"',
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r\n",
    b"\x00",
    b"\x1b[2J",
    b"#",
    b'"""',
)


def mutate_value(random: random.Random, value: Any) -> Any:
    """Return a JSON value with one place changed: removed, repeated, or of another type or size."""
    places = list(_places(value))
    path = random.choice(places)
    return _change(random, value, path)


def mutate_bytes(random: random.Random, data: bytes) -> bytes:
    """Return bytes with one to four changes: bits, cuts, repeated pieces, well-known tokens."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        place = random.randrange(len(changed) + 1)
        match random.randrange(6):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << random.randrange(8)
            case 1:
                del changed[place : place + random.choice((1, 2, 16, len(changed)))]
            case 2:
                piece = changed[place : place + random.choice((1, 8, 64))]
                changed[place:place] = piece * random.choice((1, 2, 100))
            case 3:
                changed[place:place] = random.choice(_TOKENS)
            case 4:
                token = random.choice(_TOKENS)
                changed[place : place + len(token)] = token
            case _:
                changed[place:place] = random.randbytes(random.choice((1, 4, 32)))
    return bytes(changed)


def flip_bits(random: random.Random, data: bytes) -> bytes:
    """Return bytes of the same length with one to four changed: a bit, or all of them."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(changed))
        changed[place] = random.choice((changed[place] ^ 1 << random.randrange(8), 0, 127, 255))
    return bytes(changed)


def to_json(value: Any) -> bytes:
    """Return the value as JSON; lone surrogates become escapes."""
    return json.dumps(value).encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield from _places(each, (*path, key))


def _change(random: random.Random, value: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return _other(random, value)
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if not rest and random.random() < 0.2:
        del copy[key]
    elif not rest and isinstance(copy, list) and random.random() < 0.2:
        copy += [copy[key]] * random.choice((1, 3, 300))
    else:
        copy[key] = _change(random, copy[key], tuple(rest))
    return copy


def _other(random: random.Random, value: Any) -> Any:
    """Return something in the place of `value`, often of its type."""
    if isinstance(value, str) and value and random.random() < 0.6:
        place = random.randrange(len(value))
        match random.randrange(4):
            case 0:
                letter = random.choice(string.hexdigits + "xZ \x1b")
                return value[:place] + letter + value[place + 1 :]
            case 1:
                return value[:place]
            case 2:
                return value + value[place:] * random.choice((1, 40))
            case _:
                # Long data, as answers of a contract: whole words become other words.
                word = random.choice(("0" * 64, "f" * 64, "0" * 62 + "20", "0" * 56 + "f" * 8))
                start = 2 + (place // 64) * 64
                return value[:start] + word + value[start + 64 :]
    kind = random.randrange(3)
    if kind == 0:
        return random.choice(_INTEGERS)
    if kind == 1:
        return random.choice(_TEXTS)
    return random.choice(_VALUES)
