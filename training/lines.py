"""The lines of a text file, whatever program wrote it.

Text is UTF-8, or UTF-16 or UTF-32 as its first bytes show. Encodings of one byte a character cannot
be told from one another: their name must be given.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from protocol.errors import Misconfigured

_MARKS: Final = (  # UTF-32's begins with UTF-16's, so that it comes first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE: Final = ("utf-16", "utf-32", "utf_16", "utf_32")


def read_lines(path: Path, file: BinaryIO, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Yield (number, line) from 1 on, each with its line feed and without a byte order mark.

    `encoding` is the name of one that Python knows; None: what the first bytes show. Raises
    Misconfigured, naming the line, for what is no text in it.
    """
    name = _known(encoding) if encoding else _shown(file)
    if name.startswith(_WIDE):  # there a line feed is more than one byte
        yield from _wide_lines(path, file.read(), name)
        return
    for number, raw in enumerate(file, start=1):
        try:
            line = raw.decode(name)
        except UnicodeDecodeError as error:
            raise Misconfigured(f"{path}, line {number}: {_fault(error, name)}") from error
        yield number, line.removeprefix("\ufeff") if number == 1 else line


def _wide_lines(path: Path, raw: bytes, name: str) -> Iterator[tuple[int, str]]:
    try:
        text = raw.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: not {name.upper()} text") from error
    # Not str.splitlines, which also breaks at U+2028 and others that a text may have.
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, line + "\n"


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)  # also refuses codecs that are none of text, such as base64
    except (LookupError, ValueError):
        raise Misconfigured(f"unknown encoding {encoding!r}: expected one as cp1252") from None
    return codecs.lookup(encoding).name


def _shown(file: BinaryIO) -> str:
    start = file.read(4)
    file.seek(0)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    # Without a mark: what begins a table or a JSON text is ASCII, with a zero byte beside it.
    if len(start) > 1 and 0 in start[:2]:
        return "utf-16-be" if start[0] == 0 else "utf-16-le"
    return "utf-8"


def _fault(error: UnicodeDecodeError, name: str) -> str:
    where = f"byte 0x{error.object[error.start]:02x} after {error.start} bytes"
    if name != "utf-8":
        return f"not {name} text ({where})"
    return f'not UTF-8 text ({where}): name what it is; on Windows often encoding = "cp1252"'
