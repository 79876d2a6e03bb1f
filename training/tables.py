"""Rows of a data set, from a file or the Hugging Face hub, one dictionary per row.

cards.jsonl, .ndjson,    JSON objects: one per line, one after another, in a list, or in a list that
cards.json               is the only one of an object
cards.csv, cards.tsv     the first line names the fields; .csv may also have semicolons, tabs or |
cards.parquet            needs pyarrow, which comes with `datasets`
cards.jsonl.gz           each of these packed by gzip
hub:OWNER/NAME           the split "train" of a data set on the hub; @REVISION pins it
"""

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from protocol.errors import Misconfigured, Unavailable
from protocol.text import parse_json, parse_json_values
from training.lines import read_lines

HUB: Final = "hub:"
CONVERSATIONS: Final = ("messages", "conversations")
"""The fields that hold the turns of a conversation, as OpenAI and ShareGPT name them."""
_INSTALL: Final = "run `pip install 'commonweight[train]'`"
_LARGEST_FIELD: Final = 2**31 - 1  # csv's own limit of 131,072 characters is less than a report has
_DELIMITERS: Final = ",;\t|"  # the first of those that give equally many fields
Row = dict[str, Any]
Rows = Iterator[tuple["Place", Row]]


@dataclass(frozen=True)
class Place:
    """The position of a row, for messages to its owner."""

    source: str
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.source}, {self.unit} {self.number}"


def read_rows(source: str | Path, encoding: str | None = None) -> Rows:
    """Yield (place, row) in the order of the source.

    `encoding` is that of a text file (training/lines.py). Raises Misconfigured at the first fault,
    naming its place, and Unavailable when the hub cannot be reached.
    """
    if isinstance(source, str) and source.startswith(HUB):
        yield from _hub_rows(source.removeprefix(HUB))
        return
    path = Path(source)
    is_packed = path.suffix.lower() == ".gz"
    reader = _READERS.get(Path(path.stem if is_packed else path).suffix.lower())
    if reader is None:
        forms = ", ".join(_READERS)
        raise Misconfigured(f"{path}: expected a file of {forms}, or hub:OWNER/NAME")
    try:
        with gzip.open(path, "rb") if is_packed else path.open("rb") as file:
            yield from reader(path, cast(BinaryIO, file), encoding)
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise Misconfigured(f"cannot unpack {path}: it is cut or damaged") from error


def _json(path: Path, file: BinaryIO, encoding: str | None) -> Rows:
    lines = ((n, line) for n, line in read_lines(path, file, encoding) if line.strip())
    number, line = next(lines, (0, ""))
    try:
        value = parse_json(line) if line else None
    except ValueError:
        value = None
    # 1. The first line is an object: one is on each line. An object alone may be a wrapping.
    if isinstance(value, dict) and (second := next(lines, None)):
        yield Place(str(path), "line", number), value
        for number, line in chain([second], lines):
            place = Place(str(path), "line", number)
            yield place, _object(_parsed(line, place), place)
        return
    # 2. Anything else: objects over several lines, in a list or not, so that all must be read.
    file.seek(0)
    text = "".join(line for _, line in read_lines(path, file, encoding))
    values = list(_json_values(text, path))
    for line_number, value in values:
        rows = _unwrapped(value) if len(values) == 1 else value
        if not isinstance(rows, list):
            place = Place(str(path), "line", line_number)
            yield place, _object(rows, place)
            continue
        for number, row in enumerate(rows, start=1):
            place = Place(str(path), "object", number)
            yield place, _object(row, place)


def _json_values(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    number = 1
    try:
        for number, value in parse_json_values(text):
            yield number, value
    except json.JSONDecodeError as error:
        raise Misconfigured(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except ValueError as error:
        raise Misconfigured(f"{path}, from line {number} on: {error}") from error


def _unwrapped(value: Any) -> Any:
    """Return the only value of a file, or the rows if it is an object around one list of them."""
    if not isinstance(value, dict) or not value.keys().isdisjoint(CONVERSATIONS):
        return value
    lists = [each for each in value.values() if isinstance(each, list)]
    tables = [each for each in lists if each and all(isinstance(row, dict) for row in each)]
    return tables[0] if len(tables) == 1 else value


def _separated(path: Path, file: BinaryIO, encoding: str | None, delimiter: str | None) -> Rows:
    csv.field_size_limit(_LARGEST_FIELD)
    # Lines end at line feeds only, so that quoted line breaks of other kinds stay in their field.
    lines = read_lines(path, file, encoding)
    number, first = next(((n, line) for n, line in lines if line.strip()), (0, ""))
    if first.startswith("sep=") and len(first.strip()) == 5:  # as Excel reads and writes it
        delimiter = first[4]
        number, first = next(lines, (0, ""))
    delimiter = delimiter or _delimiter(first)
    texts = chain([first], (line for _, line in lines))
    table = csv.DictReader(texts, delimiter=delimiter, strict=True)
    try:
        table.fieldnames = _names(table.fieldnames or [], path, number)
        for row in table:
            place = Place(str(path), "line", table.line_num + number - 1)
            yield place, _cells(row, place)
    except csv.Error as error:
        raise Misconfigured(f"{path}, line {table.line_num + number}: {error}") from error


def _delimiter(header: str) -> str:
    def count(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter), []))
        except csv.Error:  # named, with its line, when the table is read
            return 0

    return max(_DELIMITERS, key=count)


def _names(header: Any, path: Path, number: int) -> list[str]:
    names = [name.strip() for name in header]
    doubled = [name for name, count in Counter(names).items() if name and count > 1]
    if doubled:
        raise Misconfigured(f"{path}, line {number}: two columns are called {doubled[0]}")
    return names


def _cells(row: dict[Any, Any], place: "Place") -> Row:
    """Return a row as DictReader gives it, without the empty columns that spreadsheets append."""
    surplus = row.pop(None, [])  # DictReader's mark of a row that is too long
    row.pop("", None)
    if any(cell.strip() for cell in surplus) or None in row.values():  # ... and too short
        raise Misconfigured(f"{place}: expected {len(row)} fields")
    return row


def _parquet(path: Path, file: BinaryIO, encoding: str | None) -> Rows:
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
    except ArithmeticError as error:  # the year 300,000, say, which Python has no date for
        where = f"from row {number + 1} on"
        raise Misconfigured(f"{path}, {where}: a date or number that is too large") from error


_READERS: Final[dict[str, Callable[[Path, BinaryIO, str | None], Rows]]] = {
    ".jsonl": _json,
    ".json": _json,
    ".csv": partial(_separated, delimiter=None),
    ".tsv": partial(_separated, delimiter="\t"),
    ".parquet": _parquet,
    ".ndjson": _json,
}


def _hub_rows(name: str) -> Rows:
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


def _parsed(line: str, place: Place) -> Any:
    try:
        return parse_json(line)
    except json.JSONDecodeError as error:
        raise Misconfigured(f"{place}: not JSON ({error.msg})") from error
    except ValueError as error:
        raise Misconfigured(f"{place}: {error}") from error


def _object(value: Any, place: Place) -> Row:
    if not isinstance(value, dict):
        raise Misconfigured(f"{place}: expected a JSON object")
    return value
