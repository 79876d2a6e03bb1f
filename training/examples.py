"""Questions and answers out of rows: which fields they are in, what is dropped, what comes twice.

Nothing here needs torch: a configuration is checked and a data set shared out before it is loaded.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured
from training.tables import Place, read_rows

# What the known instruction sets call their fields, looked for when the settings name none.
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
    """The names of a row's fields; without `question` and `answer`, one of KNOWN_FIELDS is taken.

    `context`, where a row has it, follows the question after an empty line.
    """

    question: str | None = None
    context: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class DataReport:
    """What became of a data set: `rows` read, rows dropped by reason, examples left.

    `duplicates` counts the examples that repeat an earlier one, `in_held_out` those that are also
    in the held-out set, both by `text_digest`; they are reported, not removed.
    """

    rows: int
    examples: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    in_held_out: int = 0


@dataclass(frozen=True)
class Loaded:
    """The examples of a data set in its order, the group of each (see `load`), and the report."""

    examples: tuple[Example, ...]
    groups: tuple[str, ...]
    report: DataReport


class _Empty(Exception):
    """A row without a question or an answer; says which."""


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file in its order, every row of which must be one.

    For files that all must read alike, such as the held-out set. Misconfigured names file and line
    of the first fault.
    """
    examples = []
    for place, row in read_rows(path):
        try:
            examples.append(_example(row, _known_fields(row, place), place))
        except _Empty as empty:
            raise Misconfigured(f"{place}: {empty} is missing or empty") from None
    if not examples:
        raise Misconfigured(f"{path} is empty: expected one JSON object a line")
    return examples


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
    `group_until`, or "". Misconfigured when a named field is in no row or nothing is left.
    """
    fields = fields or Fields()
    examples, groups = [], []
    dropped: Counter[str] = Counter()
    rows = 0
    names: dict[str, None] = {}  # a dict keeps the order in which the fields appeared
    for place, row in read_rows(source):
        rows += 1
        names |= dict.fromkeys(islice(row, 20))
        try:
            examples.append(_example(row, _chosen_fields(fields, row, place), place))
        except _Empty as empty:
            dropped[f"no {empty}"] += 1
            continue
        groups.append(_group(row, group_field, group_until))
    if not rows:
        raise Misconfigured(f"{source} is empty: expected questions and answers")
    for name in (fields.question, fields.context, fields.answer, group_field):
        if name is not None and name not in names:
            raise Misconfigured(f"{source} has no field {name!r}: it has {', '.join(names)}")
    if not examples:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in dropped.items())
        raise Misconfigured(f"{source} has no example that can be used: {rows} rows, {reasons}")
    return Loaded(tuple(examples), tuple(groups), _report(rows, examples, dropped, held_out))


def split_validation(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return (training part, validation part), each in the order of `examples`.

    Which part an example is in depends on its text and `seed` alone, so copies stay together and
    examples added later move no other. `share` is met on average; both parts have at least one
    example, else Misconfigured. A share of 0 keeps everything for training.
    """
    if share == 0:
        return list(examples), []
    limit = share * 2**64
    is_validation = [_split_number(example, seed) < limit for example in examples]
    training = [e for e, held in zip(examples, is_validation, strict=True) if not held]
    validation = [e for e, held in zip(examples, is_validation, strict=True) if held]
    if not training or not validation:
        raise Misconfigured(
            f"a share of {share:g} of {len(examples)} examples leaves none for "
            f"{'training' if not training else 'validation'}"
        )
    return training, validation


def text_digest(example: Example) -> bytes:
    """Return the SHA-256 of question and answer, alike but for case, spaces and Unicode form."""
    return hashlib.sha256(
        f"{_normalised(example.question)}\x1f{_normalised(example.answer)}".encode(
            "utf-8", "surrogatepass"
        )
    ).digest()


def _report(
    rows: int, examples: Sequence[Example], dropped: Mapping[str, int], held_out: Iterable[Example]
) -> DataReport:
    digests = [text_digest(example) for example in examples]
    public = {text_digest(example) for example in held_out}
    return DataReport(
        rows=rows,
        examples=len(examples),
        dropped=dict(dropped),
        duplicates=len(digests) - len(set(digests)),
        in_held_out=sum(digest in public for digest in digests),
    )


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _split_number(example: Example, seed: int) -> int:
    return int.from_bytes(
        hashlib.sha256(f"validation/{seed}/".encode() + text_digest(example)).digest()[:8], "big"
    )


def _chosen_fields(fields: Fields, row: Mapping[str, Any], place: Place) -> Fields:
    if fields.question is None and fields.answer is None:
        found = _known_fields(row, place)
        return Fields(found.question, fields.context or found.context, found.answer)
    if fields.question is None or fields.answer is None:
        raise Misconfigured("the fields need both a question and an answer")
    return fields


def _known_fields(row: Mapping[str, Any], place: Place) -> Fields:
    for question, contexts, answer in KNOWN_FIELDS:
        if question in row and answer in row:
            context = next((name for name in contexts if row.get(name)), None)
            return Fields(question, context, answer)
    if {"question", "answer"} & set(row):
        return Fields("question", None, "answer")
    if "instruction" in row:
        return Fields("instruction", None, "response")
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


def _group(row: Mapping[str, Any], name: str | None, until: str | None) -> str:
    if name is None:
        return ""
    value = str(row.get(name, ""))
    return value.partition(until)[0] if until else value


def example_lines(examples: Iterable[Example]) -> Iterator[dict[str, str]]:
    """Yield the examples as the objects that a JSONL file of ours has."""
    for example in examples:
        yield {"question": example.question, "answer": example.answer}
