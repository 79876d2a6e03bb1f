"""Rows of a data set, from a file or the Hugging Face hub, one dictionary per row.

cards.jsonl              one JSON object per line (also .json with a list of objects)
cards.csv, cards.tsv     the first line names the fields
cards.parquet            needs pyarrow, which comes with `datasets`
hub:OWNER/NAME           the split "train" of a data set on the hub; @REVISION pins it
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from protocol.errors import Misconfigured, Unavailable
from protocol.text import parse_json

HUB: Final = "hub:"
_INSTALL: Final = "run `pip install 'commonweight[train]'`"
Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """The position of a row, for messages to its owner."""

    source: str
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.source}, {self.unit} {self.number}"


def read_rows(source: str | Path) -> Iterator[tuple[Place, Row]]:
    """Yield (place, row) in the order of the source.

    Raises Misconfigured at the first fault, naming its place, and Unavailable when the hub cannot
    be reached.
    """
    if isinstance(source, str) and source.startswith(HUB):
        yield from _hub_rows(source.removeprefix(HUB))
        return
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise Misconfigured(f"{path}: expected a file of {', '.join(_READERS)}, or hub:OWNER/NAME")
    try:
        with path.open("rb") as file:
            yield from reader(path, file)
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror or error}") from error


def _json_lines(path: Path, file: BinaryIO) -> Iterator[tuple[Place, Row]]:
    # The file's own lines: str.splitlines would also break at U+2028, which JSON allows in a text.
    for number, line in enumerate(file, start=1):
        if line.strip():
            place = Place(str(path), "line", number)
            yield place, _object(_parsed(line, place), place)


def _json_list(path: Path, file: BinaryIO) -> Iterator[tuple[Place, Row]]:
    raw = file.read()
    if not raw.lstrip().startswith(b"["):  # many data sets call their JSON lines .json
        file.seek(0)
        yield from _json_lines(path, file)
        return
    for number, value in enumerate(_parsed(raw, Place(str(path), "line", 1)), start=1):
        place = Place(str(path), "object", number)
        yield place, _object(value, place)


def _separated(path: Path, file: BinaryIO, delimiter: str) -> Iterator[tuple[Place, Row]]:
    try:
        text = file.read().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: not UTF-8 text") from error
    # Split at line feeds only, so that quoted line breaks of other kinds stay in their field.
    lines = (line + "\n" for line in text.split("\n"))
    table = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        for row in table:
            place = Place(str(path), "line", table.line_num)
            # DictReader's marks of a row that is too long (a key None) or too short (a value None).
            if None in row or None in row.values():
                raise Misconfigured(f"{place}: expected {len(table.fieldnames or [])} fields")
            yield place, row
    except csv.Error as error:
        raise Misconfigured(f"{path}, line {table.line_num + 1}: {error}") from error


def _parquet(path: Path, file: BinaryIO) -> Iterator[tuple[Place, Row]]:
    # Imported here, like datasets below: both are optional, and other files are read without them.
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Misconfigured(f"{path}: no pyarrow: {_INSTALL}") from error
    try:
        number = 0
        # In batches: as Python objects a file takes many times its size.
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield Place(str(path), "row", number), row
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise Misconfigured(f"{path}: not a Parquet file that can be read") from error


_READERS: Final[dict[str, Callable[[Path, BinaryIO], Iterator[tuple[Place, Row]]]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": partial(_separated, delimiter=","),
    ".tsv": partial(_separated, delimiter="\t"),
    ".parquet": _parquet,
}


def _hub_rows(name: str) -> Iterator[tuple[Place, Row]]:
    try:
        import datasets
    except ImportError as error:
        raise Misconfigured(f"hub:{name}: no `datasets`: {_INSTALL}") from error
    repository, _, revision = name.partition("@")
    try:
        rows = datasets.load_dataset(repository, revision=revision or None, split="train")
    except (datasets.exceptions.DatasetNotFoundError, ValueError) as error:
        raise Misconfigured(f"the hub has no data set {name} for you") from error
    except Exception as error:  # its client lets its HTTP library's errors through
        raise Unavailable(
            f"cannot fetch data set {name} from the hub ({type(error).__name__}): go online, "
            "or name a local file",
            service="training",
        ) from error
    for number, row in enumerate(rows, start=1):
        yield Place(f"hub:{name}", "row", number), row


def _parsed(raw: bytes, place: Place) -> Any:
    try:
        return parse_json(raw)
    except json.JSONDecodeError as error:
        raise Misconfigured(f"{place}: not JSON ({error.msg})") from error
    except ValueError as error:
        raise Misconfigured(f"{place}: {error}") from error


def _object(value: Any, place: Place) -> Row:
    if not isinstance(value, dict):
        raise Misconfigured(f"{place}: expected a JSON object")
    return value
