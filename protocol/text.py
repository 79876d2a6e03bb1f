"""Text from outside: read without surprises, shown without harm.

Parsers here raise a one-line ValueError and nothing else, whatever the bytes are.
"""

import json
import tomllib
from typing import Any, Final

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"  # editors on Windows write one
_MOST_BRACKETS: Final = 1_000  # so deep at most without a closer look
_MOST_DEPTH: Final = 100


def parse_json(raw: bytes | str) -> Any:
    """Return a JSON value; ValueError also for one nested deeper than any document of ours."""
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    data = data.removeprefix(_BYTE_ORDER_MARK)
    # Some libraries lift Python's limit of recursion so far that deep text would end the process.
    if data.count(b"[") + data.count(b"{") > _MOST_BRACKETS and _depth(data) > _MOST_DEPTH:
        raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


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


def _depth(data: bytes) -> int:
    """Return the deepest nesting, counting brackets inside of strings as well."""
    depth = deepest = 0
    for byte in data:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
