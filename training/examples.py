"""Questions and answers read from rows: their fields, what is dropped, and what repeats.

Nothing here needs torch, so that a configuration can be checked and a data set divided without
loading it.
"""

import hashlib
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured
from training.tables import Place, read_rows

# (question, contexts, answer) as common instruction sets name them; used when the settings name
# none. The first match wins.
KNOWN_FIELDS: Final = (
    ("question", (), "answer"),
    ("instruction", ("input", "context"), "response"),
    ("instruction", ("input", "context"), "output"),
    ("prompt", (), "completion"),
    ("prompt", (), "response"),
)


@dataclass(frozen=True)
class Example:
    """One question and the answer to learn."""

    question: str
    answer: str


@dataclass(frozen=True)
class Fields:
    """The names of a row's fields; without `question` and `answer`, those of KNOWN_FIELDS.

    A row's `context`, if it has one, follows the question after an empty line.
    """

    question: str | None = None
    context: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class DataReport:
    """The number of rows read, of rows dropped by reason, and of examples left.

    `duplicates` counts the examples that repeat an earlier one, `in_held_out` those that are also
    in the held-out set, both by `text_digest`. They are reported, not removed.
    """

    rows: int
    examples: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    in_held_out: int = 0


@dataclass(frozen=True)
class Loaded:
    """The examples of a data set in order, the group of each (see `load`), and the report."""

    examples: tuple[Example, ...]
    groups: tuple[str, ...]
    report: DataReport


class _Empty(Exception):
    """A row lacks a question or an answer; the message is the field's name."""


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file in order; every row must be one.

    Raises Misconfigured naming file and line of the first fault.
    """
    # Nothing is dropped, unlike in `load`: everybody must read the same from such files (the
    # held-out set), whatever a version considers unusable.
    examples = []
    for place, row in read_rows(path):
        try:
            examples.append(_example(row, _fields_of(row, Fields(), place), place))
        except _Empty as empty:
            raise Misconfigured(f"{place}: {empty} is missing or empty") from None
    if not examples:
        raise Misconfigured(f"{path} is empty: expected one JSON object per line")
    return examples


def parse_examples(raw: bytes) -> list[Example]:
    """Return the examples of the bytes of a .jsonl file; as `read_examples`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "held_out.jsonl"
        path.write_bytes(raw)
        return read_examples(path)


def load(
    source: str | Path,
    fields: Fields | None = None,
    *,
    group_field: str | None = None,
    group_until: str | None = None,
    held_out: Iterable[Example] = (),
) -> Loaded:
    """Return the examples of a private data set and a report of what was read and dropped.

    `source` is a path or `hub:OWNER/NAME` (training/tables.py). A row without a question or an
    answer is dropped and counted. The group of an example is the text of `group_field` up to
    `group_until`, or "". Raises Misconfigured when no row has a named field, or none is usable.
    """
    fields = fields or Fields()
    examples, groups = [], []
    dropped: Counter[str] = Counter()
    rows = 0
    names: dict[str, None] = {}  # a dict keeps the order in which the fields appeared
    for place, row in read_rows(source):
        rows += 1
        names |= dict.fromkeys(islice(row, 20))  # wide tables would fill the message below
        try:
            examples.append(_example(row, _fields_of(row, fields, place), place))
        except _Empty as empty:
            dropped[f"no {empty}"] += 1
            continue
        group = "" if group_field is None else str(row.get(group_field, ""))
        groups.append(group.partition(group_until)[0] if group_until else group)
    if not rows:
        raise Misconfigured(f"{source} is empty: expected questions and answers")
    # A misspelt field looks like rows that are all empty: named here, before that is reported.
    for name in (fields.question, fields.context, fields.answer, group_field):
        if name is not None and name not in names:
            raise Misconfigured(f"{source} has no field {name!r}: it has {', '.join(names)}")
    if not examples:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in dropped.items())
        raise Misconfigured(f"{source} has no example that can be used: {rows} rows, {reasons}")
    digests = [text_digest(example) for example in examples]
    public = {text_digest(example) for example in held_out}
    report = DataReport(
        rows=rows,
        examples=len(examples),
        dropped=dict(dropped),
        duplicates=len(digests) - len(set(digests)),
        in_held_out=sum(digest in public for digest in digests),
    )
    return Loaded(tuple(examples), tuple(groups), report)


def split_validation(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return (training part, validation part), each in the order of `examples`.

    `share` is met on average; 0 keeps everything for training. Raises Misconfigured when either
    part would be empty.
    """
    if share == 0:
        return list(examples), []
    training: list[Example] = []
    validation: list[Example] = []
    for example in examples:
        # The part depends on text and seed alone: copies stay together, or a validation example
        # could have been trained on, and examples added later move no other.
        label = f"validation/{seed}/".encode() + text_digest(example)
        number = int.from_bytes(hashlib.sha256(label).digest()[:8], "big")
        (validation if number < share * 2**64 else training).append(example)
    if not training or not validation:
        raise Misconfigured(
            f"a share of {share:g} of {len(examples)} examples leaves none for "
            f"{'training' if not training else 'validation'}"
        )
    return training, validation


def text_digest(example: Example) -> bytes:
    """Return the SHA-256 of question and answer, regardless of case, spaces and Unicode form."""
    # U+001F separates the two: normalisation leaves none in either, as Python counts it as a space.
    # JSON can spell lone surrogates, which have no UTF-8.
    text = f"{_normalised(example.question)}\x1f{_normalised(example.answer)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _fields_of(row: Mapping[str, Any], wanted: Fields, place: Place) -> Fields:
    """Return the fields to read: those `wanted`, or the known ones that this row has."""
    if wanted.question is not None and wanted.answer is not None:
        return wanted
    if wanted.question is not None or wanted.answer is not None:
        raise Misconfigured("the fields need both a question and an answer")
    for question, contexts, answer in KNOWN_FIELDS:
        if question in row and answer in row:
            context = next((name for name in contexts if row.get(name)), None)
            return Fields(question, wanted.context or context, answer)
    # Half of a known pair: the row lacks a field, and is dropped or refused under that name.
    if {"question", "answer"} & set(row):
        return Fields("question", wanted.context, "answer")
    if "instruction" in row:
        return Fields("instruction", wanted.context, "response")
    found = ", ".join(islice(row, 20)) or "none"
    raise Misconfigured(
        f"{place}: expected fields question and answer, found {found}: name yours in [data.fields]"
    )


def _example(row: Mapping[str, Any], fields: Fields, place: Place) -> Example:
    question = _text(row, fields.question or "", place)
    if fields.context and row.get(fields.context):
        question += "\n\n" + _text(row, fields.context, place)
    return Example(question, _text(row, fields.answer or "", place))


def _text(row: Mapping[str, Any], name: str, place: Place) -> str:
    value = row.get(name)
    if value is None:
        raise _Empty(name)
    if not isinstance(value, str):
        raise Misconfigured(f"{place}: {name} must be text, not {type(value).__name__}")
    if not value.strip():
        raise _Empty(name)
    return value


def example_lines(examples: Iterable[Example]) -> Iterator[dict[str, str]]:
    """Yield the examples as the JSON objects of a file that `read_examples` reads."""
    for example in examples:
        yield {"question": example.question, "answer": example.answer}
