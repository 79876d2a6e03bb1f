"""Questions and answers read from rows: their fields, what is dropped, and what repeats.

Nothing here needs torch, so that a configuration can be checked and a data set divided without
loading it.
"""

import hashlib
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured
from training.conversations import Exchange, Turn, Unusable, exchanges, is_blank, read_turns
from training.tables import CONVERSATIONS, Place, read_rows

# (question, contexts, answer) as common instruction sets name them; used when the settings name
# none. The first match wins.
KNOWN_FIELDS: Final = (
    ("question", (), "answer"),
    ("question", (), "response"),
    ("instruction", ("input", "context"), "response"),
    ("instruction", ("input", "context"), "output"),
    ("prompt", (), "completion"),
    ("prompt", (), "response"),
    ("input", (), "output"),
    ("query", (), "response"),
)
# Programs that cut a text in the middle of an emoji leave half of it, which JSON can spell.
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SHOWN_FIELDS: Final = 20  # wide tables would fill a message


@dataclass(frozen=True)
class Example:
    """One question and the answer to learn.

    `system` is the instruction before the conversation, `history` what was said before the
    question; neither is learnt.
    """

    question: str
    answer: str
    system: str = ""
    history: tuple[Exchange, ...] = ()


@dataclass(frozen=True)
class Fields:
    """The names of a row's fields, in any case; without any, those of KNOWN_FIELDS.

    A row's `context`, if it has one, follows the question after an empty line. `messages` is a
    field with a whole conversation, in place of the other three.
    """

    question: str | None = None
    context: str | None = None
    answer: str | None = None
    messages: str | None = None


@dataclass(frozen=True)
class DataReport:
    """The number of rows read, of rows dropped by reason, and of examples left.

    A conversation gives an example for each of its answers. `duplicates` counts the examples that
    repeat an earlier one, `in_held_out` those that are also in the held-out set, both by
    `text_digest`. They are reported, not removed. `repaired` counts the examples in which lone
    surrogates were replaced by U+FFFD.
    """

    rows: int
    examples: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    in_held_out: int = 0
    repaired: int = 0


@dataclass(frozen=True)
class Loaded:
    """The examples of a data set in order, the group of each (see `load`), and the report.

    `records` numbers the row that each comes from: a conversation gives several.
    """

    examples: tuple[Example, ...]
    groups: tuple[str, ...]
    report: DataReport
    records: tuple[int, ...]


def read_examples(path: Path) -> list[Example]:
    """Return the examples of a file in order; every row must give one or more.

    Raises Misconfigured naming file and line of the first fault.
    """
    # Nothing is dropped, unlike in `load`: everybody must read the same from such files (the
    # held-out set), whatever a version considers unusable.
    examples: list[Example] = []
    for place, row in read_rows(path):
        try:
            found = _examples(_Cells(row, place), Fields())
        except Unusable as reason:
            raise Misconfigured(f"{place}: there is {reason}") from None
        examples += map(_repaired, found)
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
    encoding: str | None = None,
    group_field: str | None = None,
    group_until: str | None = None,
    held_out: Iterable[Example] = (),
) -> Loaded:
    """Return the examples of a private data set and a report of what was read and dropped.

    `source` is a path or `hub:OWNER/NAME` (training/tables.py), `encoding` that of its text. A row
    that gives no example is dropped and counted. The group of an example is the text of
    `group_field` up to `group_until`, or "". Raises Misconfigured when no row has a named field, or
    none is usable.
    """
    fields = fields or Fields()
    named = (fields.question, fields.context, fields.answer, fields.messages, group_field)
    unseen = {name for name in named if name is not None}
    examples: list[Example] = []
    groups: list[str] = []
    records: list[int] = []
    dropped: Counter[str] = Counter()
    rows = repaired = 0
    names: dict[str, None] = {}  # a dict keeps the order in which the fields appeared
    for place, row in read_rows(source, encoding):
        rows += 1
        cells = _Cells(row, place)
        unseen = {name for name in unseen if not cells.has(name)}
        names |= dict.fromkeys(islice(row, _SHOWN_FIELDS))
        try:
            found = _examples(cells, fields)
        except Unusable as reason:
            dropped[str(reason)] += 1
            continue
        group = "" if group_field is None else str(cells.get(group_field) or "")
        for example in found:
            examples.append(_repaired(example))
            groups.append(group.partition(group_until)[0] if group_until else group)
            records.append(rows)
            repaired += examples[-1] is not example
    if not rows:
        raise Misconfigured(f"{source} is empty: expected questions and answers")
    # A misspelt field looks like rows that are all empty: named here, before that is reported.
    for name in filter(unseen.__contains__, named):
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
        repaired=repaired,
    )
    return Loaded(tuple(examples), tuple(groups), report, tuple(records))


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
        (validation if in_validation(example, share, seed) else training).append(example)
    if not training or not validation:
        raise Misconfigured(
            f"a share of {share:g} of {len(examples)} examples leaves none for "
            f"{'training' if not training else 'validation'}"
        )
    return training, validation


def in_validation(example: Example, share: float, seed: int) -> bool:
    """Return whether an example belongs to the validation part that `share` of the rows make."""
    # The part depends on text and seed alone: copies stay together, or a validation example could
    # have been trained on, and examples added later move no other. All answers of a conversation
    # stay together: each has the earlier ones before it.
    first = example.history[0] if example.history else example
    label = f"validation/{seed}/".encode() + text_digest(first)
    number = int.from_bytes(hashlib.sha256(label).digest()[:8], "big")
    return number < share * 2**64


def text_digest(example: Example | Exchange) -> bytes:
    """Return the SHA-256 of all that is said, regardless of case, spaces and Unicode form.

    A system text does not count: it often is the same in all rows.
    """
    # U+001F separates the texts: normalisation leaves none in any, as Python counts it as a space.
    # JSON can spell lone surrogates, which have no UTF-8.
    history = example.history if isinstance(example, Example) else ()
    texts = [text for each in (*history, example) for text in (each.question, each.answer)]
    text = "\x1f".join(map(_normalised, texts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class _Cells:
    """The cells of a row by the names of their fields, in any case."""

    def __init__(self, row: Mapping[str, Any], place: Place) -> None:
        self.row = row
        self.place = place
        # Backwards, so that the first of two names that differ in case counts.
        self._folded = {str(name).strip().casefold(): row[name] for name in reversed([*row])}

    def has(self, *names: str) -> bool:
        """Return whether the row has all of these fields."""
        return all(name in self.row or name.casefold() in self._folded for name in names)

    def get(self, name: str) -> Any:
        """Return a cell; None where it is missing, or NaN, as pandas writes what is missing."""
        value = self.row.get(name, self._folded.get(name.casefold()))
        return None if isinstance(value, float) and isnan(value) else value

    def text(self, name: str) -> str:
        """Return a text that is not blank; Unusable when there is none."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise Misconfigured(f"{self.place}: {name} must be text, not {type(value).__name__}")
        if value is None or is_blank(value):
            raise Unusable(f"no {name}")
        return value

    def turns(self, name: str) -> list[Turn]:
        """Return the turns of a conversation; Unusable when there is none."""
        value = self.get(name)
        if value is None:
            raise Unusable(f"no {name}")
        return read_turns(value, f"{self.place}: {name}")


def _examples(cells: _Cells, fields: Fields) -> list[Example]:
    """Return an example for each answer of a row that is to be learnt; Unusable without any."""
    system, found = exchanges(_turns(cells, fields))
    examples = [
        Example(each.question, each.answer, system, tuple(found[:index]))
        for index, each in enumerate(found)
        if each.is_learnt
    ]
    if not examples:
        raise Unusable("no answer")
    return examples


def _turns(cells: _Cells, fields: Fields) -> list[Turn]:
    # 1. A conversation in one field.
    conversation = fields.messages
    if conversation is None and fields.question is None and fields.answer is None:
        given = (each for each in CONVERSATIONS if cells.get(each) is not None)
        conversation = next(given, None)
    if conversation is not None:
        return _system(cells, "system") + cells.turns(conversation)
    # 2. Question and answer, each a conversation: only the answer is learnt.
    found = _fields_of(cells, fields)
    question, answer = found.question or "", found.answer or ""
    system = _system(cells, "system") if question == "instruction" else _system(cells)
    if isinstance(cells.get(question), list) and _is_conversation(cells.get(answer)):
        before = [replace(turn, is_learnt=False) for turn in cells.turns(question)]
        return system + before + cells.turns(answer)
    # 3. Question and answer as texts.
    asked = cells.text(question)
    if found.context:
        # A row need not have one.
        with suppress(Unusable):
            asked += "\n\n" + cells.text(found.context)
    return [*system, Turn("user", asked), Turn("assistant", cells.text(answer))]


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _system(cells: _Cells, *names: str) -> list[Turn]:
    # Beside a question, a column "system" may well be the circulatory one.
    texts = [cells.get(name) for name in (*names, "system_prompt")]
    return [Turn("system", text) for text in texts if isinstance(text, str)]


def _fields_of(cells: _Cells, wanted: Fields) -> Fields:
    """Return the fields to read: those `wanted`, or the known ones that this row has."""
    if wanted.question is not None and wanted.answer is not None:
        return wanted
    if wanted.question is not None or wanted.answer is not None:
        raise Misconfigured("the fields need both a question and an answer")
    for question, contexts, answer in KNOWN_FIELDS:
        if cells.has(question, answer):
            context = next((name for name in contexts if cells.get(name)), None)
            return Fields(question, wanted.context or context, answer)
    # Half of a known pair: the row lacks a field, and is dropped or refused under that name.
    if cells.has("question") or cells.has("answer"):
        return Fields("question", wanted.context, "answer")
    if cells.has("instruction"):
        return Fields("instruction", wanted.context, "response")
    if any(map(cells.has, CONVERSATIONS)):
        raise Unusable("no messages")
    names = ", ".join(map(str, islice(cells.row, _SHOWN_FIELDS))) or "none"
    raise Misconfigured(
        f"{cells.place}: expected fields question and answer, or messages, found {names}: "
        'name yours with fields = { question = "…", answer = "…" }'
    )


def _repaired(example: Example) -> Example:
    """Return the example itself, or a copy with U+FFFD in place of each lone surrogate."""

    def repair(text: str) -> str:
        return _LONE_SURROGATE.sub("\ufffd", text)

    history = tuple(
        replace(each, question=repair(each.question), answer=repair(each.answer))
        for each in example.history
    )
    repaired = Example(
        repair(example.question), repair(example.answer), repair(example.system), history
    )
    return example if repaired == example else repaired


def example_lines(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Yield the examples as the JSON objects of a file that `read_examples` reads."""
    for example in examples:
        if not example.system and not example.history:
            yield {"question": example.question, "answer": example.answer}
            continue
        said = [("system", example.system)] if example.system else []
        for each in example.history:
            said += [("user", each.question), ("assistant", each.answer)]
        turns = [{"role": role, "content": text, "weight": 0} for role, text in said]
        asked = {"role": "user", "content": example.question}
        yield {"messages": [*turns, asked, {"role": "assistant", "content": example.answer}]}
