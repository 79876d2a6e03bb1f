"""Text from outside: read without surprises, shown without harm.

Parsers here raise a one-line ValueError and nothing else, whatever the bytes are.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, Final

Pairs = Callable[[list[tuple[str, Any]]], Any]

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"  # editors on Windows write one
_MOST_BRACKETS: Final = 1_000  # so deep at most without a closer look
_MOST_DEPTH: Final = 100
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def parse_json(raw: bytes | str, pairs: Pairs | None = None) -> Any:
    """Return a JSON value; ValueError also for one nested deeper than any document of ours.

    `pairs` makes an object of its names and values; None: a dictionary, the last of a name counts.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    data = data.removeprefix(_BYTE_ORDER_MARK)
    _check_depth(data)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


def parse_json_values(text: str) -> Iterator[tuple[int, Any]]:
    """Yield (number of its first line, value) of each of the JSON values that follow one another.

    Raises ValueError as `parse_json` does, a JSONDecodeError where it knows the line.
    """
    _check_depth(text.encode("utf-8", "surrogatepass"))
    decoder, at, line = json.JSONDecoder(), 0, 1
    while match := re.compile(r"\S").search(text, at):
        line += text.count("\n", at, match.start())
        value, stop = decoder.raw_decode(text, match.start())
        yield line, value
        line += text.count("\n", match.start(), stop)
        at = stop


def parse_toml(raw: bytes) -> dict[str, Any]:
    """Return the tables of a TOML file."""
    try:
        # A lone carriage return is no line break in TOML, and tomllib says so in its own words.
        return tomllib.loads(raw.removeprefix(_BYTE_ORDER_MARK).decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def printable(text: str) -> str:
    """Return `text` with every character that is not printable escaped.

    Others write manifests, announcements and error messages. Their text must not move a terminal's
    cursor, nor reverse the direction in which a line is read.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _check_depth(data: bytes) -> None:
    """Raise ValueError for JSON that is nested too deeply to be parsed by recursion."""
    # Some libraries lift Python's limit of recursion so far that deep text would end the process.
    if data.count(b"[") + data.count(b"{") <= _MOST_BRACKETS:
        return
    # Strings do not count: among a thousand texts, some have an interval such as [0, 1).
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _MOST_DEPTH:
        raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
