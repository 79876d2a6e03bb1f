"""Data sets as people have them: read as they were meant, or refused in one clear line."""

import codecs
import csv
import gzip
import io
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from commonweight.demo.shards import prepare_data
from contracts.enums import Status
from node.settings import ParticipantSettings
from node.trainer import LocalTrainer, open_trainer
from protocol.canonical import sha256
from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from protocol.types import RoundId
from runtime.events import DataCut, DataRead, Event
from sponsor.config import Config
from storage.layers import LayerFolder
from tests.commonweight.program import TINY
from tests.training.conftest import make_spec
from tests.world import World
from training.adapter import initial_array
from training.chat import answer
from training.conversations import Exchange
from training.data import tokenize
from training.examples import Example, Fields, load, read_examples, split_validation, text_digest
from training.examples import example_lines as lines_of
from training.model import load_base, load_tokenizer
from training.sources import ModelSource, resolve_source

PAIRS = [
    ("Which gas do we breathe out?", "Carbon dioxide."),
    ("What carries oxygen?", "Red blood cells."),
    ("Where is bile made?", "In the liver."),
]
EXAMPLES = [Example(*pair) for pair in PAIRS]
ROWS = [{"question": asked, "answer": said} for asked, said in PAIRS]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return resolve_source("tiny-llama", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tokenizer(tiny: ModelSource) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny.folder)


def json_lines(rows: list[Row], end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def table(rows: list[Row], **form: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), **form)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def named(*names: str) -> list[Row]:
    """The rows under other names: of the question, of the answer."""
    return [dict(zip(names, pair, strict=True)) for pair in PAIRS]


def chat(asked: str, said: str, role: str = "role", content: str = "content") -> list[Row]:
    names = {"role": ("user", "assistant"), "from": ("human", "gpt")}[role]
    return [{role: names[0], content: asked}, {role: names[1], content: said}]


def parts(text: str) -> list[Row]:
    return [{"type": "text", "text": text}]


SAME: dict[str, tuple[str, bytes]] = {
    "alpaca": (
        "d.json",
        json.dumps([{"instruction": a, "input": "", "output": b} for a, b in PAIRS]).encode(),
    ),
    "byte order mark, JSON": ("d.json", codecs.BOM_UTF8 + json.dumps(ROWS).encode()),
    "byte order mark, lines": ("d.jsonl", codecs.BOM_UTF8 + json_lines(ROWS)),
    "byte order mark, CSV": ("d.csv", codecs.BOM_UTF8 + table(ROWS)),
    "UTF-16 of PowerShell": ("d.jsonl", json_lines(ROWS, "\r\n").decode().encode("utf-16")),
    "UTF-16 without a mark": ("d.csv", table(ROWS).decode().encode("utf-16-le")),
    "UTF-16, big end first": ("d.csv", table(ROWS).decode().encode("utf-16-be")),
    "UTF-32": ("d.jsonl", json_lines(ROWS).decode().encode("utf-32")),
    "lines of Windows": ("d.jsonl", json_lines(ROWS, "\r\n")),
    "CSV of Windows": ("d.csv", table(ROWS, lineterminator="\r\n")),
    "semicolons": ("d.csv", table(ROWS, delimiter=";")),
    "tabs called commas": ("d.csv", table(ROWS, delimiter="\t")),
    "Excel's own line": ("d.csv", b"sep=;\r\n" + table(ROWS, delimiter=";")),
    "columns without a name": (
        "d.csv",
        b"question,answer,,\n" + b"".join(f"{a},{b},,\n".encode() for a, b in PAIRS),
    ),
    "a comma too many": (
        "d.csv",
        b"question,answer\n" + b"".join(f"{a},{b},\n".encode() for a, b in PAIRS),
    ),
    "capitals": ("d.csv", table(named("Question", "Answer"))),
    "capitals and blanks": ("d.csv", table(named(" QUESTION ", "Answer "))),
    "wide": ("d.csv", table([{**{f"c{n}": "" for n in range(30)}, **row} for row in ROWS])),
    "input and output": ("d.jsonl", json_lines(named("input", "output"))),
    "prompt and completion": ("d.jsonl", json_lines(named("prompt", "completion"))),
    "another name of lines": ("d.ndjson", json_lines(ROWS)),
    "packed": ("d.jsonl.gz", gzip.compress(json_lines(ROWS))),
    "packed table": ("d.CSV.GZ", gzip.compress(table(ROWS))),
    "a list in lines": ("d.jsonl", json.dumps(ROWS, indent=1).encode()),
    "a list in one line": ("d.jsonl", json.dumps(ROWS).encode()),
    "pretty objects": ("d.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
    "wrapped": ("d.json", json.dumps({"version": "1", "data": ROWS}, indent=1).encode()),
    "wrapped in one line": ("d.jsonl", json.dumps({"data": ROWS}).encode()),
    "messages": ("d.jsonl", json_lines([{"messages": chat(*pair)} for pair in PAIRS])),
    "parts": (
        "d.jsonl",
        json_lines([{"messages": chat(parts(a), parts(b))} for a, b in PAIRS]),  # type: ignore[arg-type]
    ),
    "ShareGPT": (
        "d.json",
        json.dumps([{"conversations": chat(*pair, "from", "value")} for pair in PAIRS]).encode(),
    ),
    "TRL's prompt and completion": (
        "d.jsonl",
        json_lines([{"prompt": chat(*pair)[:1], "completion": chat(*pair)[1:]} for pair in PAIRS]),
    ),
    "three origins": (
        "d.jsonl",
        json_lines(
            [
                ROWS[0],
                {"instruction": PAIRS[1][0], "input": "", "output": PAIRS[1][1]},
                {"messages": chat(*PAIRS[2])},
            ]
        ),
    ),
    "an answer first, a question last": (
        "d.jsonl",
        json_lines(
            [
                {"messages": [{"role": "assistant", "content": "Hello!"}, *chat(*pair), *late]}
                for pair in PAIRS
                for late in [[{"role": "user", "content": "And?"}]]
            ]
        ),
    ),
}


@pytest.mark.parametrize("form", SAME)
def test_one_data_set_in_every_form(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, *SAME[form])
    loaded = load(path)
    assert list(loaded.examples) == EXAMPLES
    assert loaded.report.dropped == {}
    assert read_examples(path) == EXAMPLES


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "Has \x00?", "answer": "a\x00b"}, Example("Has \x00?", "a\x00b")),
        ({"question": "Line\u2028break?", "answer": "a\u2029b"}, None),
        ({"question": "Range?", "answer": "[0, 1) {"}, None),
        (
            {"instruction": "Be a doctor.", "input": "Why?", "output": "So."},
            Example("Be a doctor.\n\nWhy?", "So."),
        ),
        (
            {"system_prompt": "Be brief.", "question": "Why?", "response": "So."},
            Example("Why?", "So.", "Be brief."),
        ),
        ({"messages": None, "question": "Why?", "answer": "So."}, Example("Why?", "So.")),
        ({"instruction": "Why?", "input": "\u00a0", "output": "So."}, Example("Why?", "So.")),
        ({"system": "digestive", "question": "Why?", "answer": "So."}, Example("Why?", "So.")),
        (
            {"system": "Be brief.", "conversations": chat("Why?", "So.", "from", "value")},
            Example("Why?", "So.", "Be brief."),
        ),
        (
            {"messages": [{"role": "developer", "content": "Be brief."}, *chat("Why?", "So.")]},
            Example("Why?", "So.", "Be brief."),
        ),
        (
            {"messages": [*chat("Why?", "So."), {"role": "assistant", "content": "Truly."}]},
            Example("Why?", "So.\n\nTruly."),
        ),
        (
            {"messages": [{"role": "user", "content": "Hm."}, *chat("Why?", "So.")]},
            Example("Hm.\n\nWhy?", "So."),
        ),
    ],
)
def test_what_a_row_says(tmp_path: Path, row: Row, expected: Example | None) -> None:
    path = written(tmp_path, "d.jsonl", json_lines([row]))
    assert read_examples(path) == [expected or Example(row["question"], row["answer"])]


def test_every_answer_of_a_conversation_is_learnt(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = [system, *chat("A?", "a"), *chat("B?", "b"), *chat("C?", "c")]
    history = (Exchange("A?", "a"), Exchange("B?", "b"))
    expected = (
        Example("A?", "a", "Be brief."),
        Example("B?", "b", "Be brief.", history[:1]),
        Example("C?", "c", "Be brief.", history),
    )
    path = written(tmp_path, "d.jsonl", json_lines([{"messages": turns, "id": "x"}]))
    loaded = load(path, group_field="id")
    assert loaded.examples == expected
    assert loaded.groups == ("x", "x", "x")
    assert (loaded.report.rows, loaded.report.examples) == (1, 3)
    # OpenAI's weight 0, and all but the completion, are context.
    turns[2] = {**turns[2], "weight": 0}
    path = written(tmp_path, "w.jsonl", json_lines([{"messages": turns}]))
    later = [
        replace(each, history=(Exchange("A?", "a", False), *each.history[1:]))
        for each in expected[1:]
    ]
    assert load(path).examples == tuple(later)
    path = written(
        tmp_path, "p.jsonl", json_lines([{"prompt": turns[:-1], "completion": turns[-1:]}])
    )
    (only,) = load(path).examples
    assert text_digest(only) == text_digest(expected[-1])
    # What is written for others reads back: one example a line.
    path = written(tmp_path, "again.jsonl", json_lines(list(lines_of(expected))))
    again = read_examples(path)
    assert [text_digest(each) for each in again] == [text_digest(each) for each in expected]
    assert {each.system for each in again} == {"Be brief."}


def test_a_conversation_is_not_split_from_its_beginning(tmp_path: Path) -> None:
    rows = [{"messages": [*chat(f"Q{n}?", "a"), *chat("More?", f"b{n}")]} for n in range(60)]
    examples = load(written(tmp_path, "d.jsonl", json_lines(rows))).examples
    training, validation = split_validation(examples, 0.3, seed=1)
    assert len(training) % 2 == len(validation) % 2 == 0
    assert 20 < len(validation) < 60
    for part in (training, validation):
        for first, second in zip(part[::2], part[1::2], strict=True):
            assert second.history == (Exchange(first.question, first.answer),)


@pytest.mark.parametrize("field", ["dialog", "Dialog"])
def test_a_conversation_under_another_name(tmp_path: Path, field: str) -> None:
    path = written(tmp_path, "d.jsonl", json_lines([{"Dialog": chat(*pair)} for pair in PAIRS]))
    assert list(load(path, Fields(messages=field)).examples) == EXAMPLES
    with pytest.raises(Misconfigured, match=r"found Dialog: name yours with fields = "):
        load(path)


@pytest.mark.parametrize(
    "wanted", [Fields("Frage", None, "Antwort"), Fields("frage", None, "ANTWORT")]
)
def test_fields_are_found_in_any_case(tmp_path: Path, wanted: Fields) -> None:
    path = written(tmp_path, "d.csv", table(named("Frage", "Antwort"), delimiter=";"))
    assert list(load(path, wanted).examples) == EXAMPLES


def test_of_two_names_that_differ_in_case_the_very_one_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "d.jsonl", json_lines([{"Q": "Which?", "q": "This?", "a": "Yes."}]))
    assert load(path, Fields("q", None, "a")).examples == (Example("This?", "Yes."),)
    assert load(path, Fields("Q", None, "A")).examples == (Example("Which?", "Yes."),)


@pytest.mark.parametrize("encoding", ["cp1252", "Windows-1252", "latin-1", "cp850", "utf-16-le"])
def test_a_named_encoding(tmp_path: Path, encoding: str) -> None:
    rows = [
        {
            "Question": "Où est l'âme ?",
            "Answer": "Près du front: 37 µm, Größe 5",
        }
    ]
    text = table(rows, delimiter=";").decode()
    path = written(tmp_path, "d.csv", text.encode(encoding))
    (only,) = load(path, encoding=encoding).examples
    assert (only.question, only.answer) == tuple(rows[0].values())


def test_line_breaks_within_a_field_are_kept(tmp_path: Path) -> None:
    content = b'question,answer\r\n"Two?","first\r\nsecond"\r\n"One?","x\ny"\r\n'
    for name, kept in (("d.csv", "first\r\nsecond"), ("d.tsv", "first\r\nsecond")):
        raw = content.replace(b",", b"\t") if name == "d.tsv" else content
        assert load(written(tmp_path, name, raw)).examples == (
            Example("Two?", kept),
            Example("One?", "x\ny"),
        )


def test_a_field_may_be_long(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"question": "Sum up.", "answer": "word " * 40_000}]
    (only,) = load(written(tmp_path, "d.csv", table(rows))).examples
    assert len(only.answer) == 200_000
    tokenized = tokenize(tokenizer, [only], 128)
    assert (len(tokenized.rows), tokenized.truncated) == (1, 1)


@pytest.mark.parametrize(
    "missing",
    [
        {"question": "Q?", "answer": None},
        {"question": "Q?", "answer": float("nan")},
        {"question": "Q?", "answer": ""},
        {"question": "Q?", "answer": "\u00a0\u200b\u2060\ufeff \t"},
        {"question": "Q?"},
        {"messages": chat("Q?", "\u200b")},
        {"messages": [{"role": "user", "content": "Q?"}]},
        {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": None}]},
        {"messages": []},
        {"messages": [], "question": "Q?", "answer": "A."},
    ],
)
def test_rows_without_an_answer_are_dropped_and_counted(tmp_path: Path, missing: Row) -> None:
    lines = [json.dumps(row) + "\n" for row in [ROWS[0], missing, *ROWS[1:]]]
    path = written(tmp_path, "d.jsonl", "".join(lines).encode())
    loaded = load(path)
    assert list(loaded.examples) == EXAMPLES
    assert loaded.report.dropped == {"no answer": 1}
    # Everybody must read the same from a held-out set: there it is a fault.
    with pytest.raises(Misconfigured, match=r"d\.jsonl, line 2: there is no answer"):
        read_examples(path)


def test_a_row_without_its_conversation_is_dropped_and_counted(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"messages": chat(*PAIRS[0])},
        {"messages": None},
        {"messages": chat(*PAIRS[1])},
    ]
    loaded = load(written(tmp_path, "d.jsonl", json_lines(rows)))
    assert list(loaded.examples) == EXAMPLES[:2]
    assert loaded.report.dropped == {"no messages": 1}


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "tool", "content": "42"}, "a turn of tool"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "image_url"),
    ],
)
def test_what_is_no_text_is_dropped_and_counted(tmp_path: Path, turn: Row, reason: str) -> None:
    rows: list[Row] = [*ROWS, {"messages": [*chat("Q?", "A."), turn]}]
    loaded = load(written(tmp_path, "d.jsonl", json_lines(rows)))
    assert list(loaded.examples) == EXAMPLES
    ((told, count),) = loaded.report.dropped.items()
    assert reason in told
    assert count == 1


def test_half_a_character_is_replaced_and_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    raw = rb'{"question": "Mood \ud83d today?", "answer": "Good \ude00, or \ud83d\ude00."}' + b"\n"
    path = written(tmp_path, "d.jsonl", raw + json_lines(ROWS))
    loaded = load(path)
    assert loaded.examples[0] == Example("Mood \ufffd today?", "Good \ufffd, or \U0001f600.")
    assert loaded.report.repaired == 1
    assert read_examples(path) == list(loaded.examples)
    assert len(tokenize(tokenizer, loaded.examples, 192).rows) == 4


REFUSED: dict[str, tuple[str, bytes, str]] = {
    "several answers": (
        "d.jsonl",
        json_lines([{"question": "Q?", "answer": ["a", "b"]}]),
        "line 1: answer must be text, not list",
    ),
    "numbers": (
        "d.jsonl",
        json_lines([{"question": "Q?", "answer": 3}]),
        "line 1: answer must be text, not int",
    ),
    "one text": (
        "d.jsonl",
        json_lines([{"text": "### Human: Q? ### Assistant: A."}]),
        "line 1: expected fields question and answer, or messages, found text: name yours",
    ),
    "preferences": (
        "d.jsonl",
        json_lines([{"prompt": "Q?", "chosen": "A.", "rejected": "B."}]),
        "found prompt, chosen, rejected",
    ),
    "a conversation of texts": (
        "d.jsonl",
        json_lines([{"messages": ["Q?", "A."]}]),
        "line 1: messages must be a list of messages",
    ),
    "a conversation in a text": (
        "d.csv",
        table([{"messages": json.dumps(chat("Q?", "A."))}]),
        "line 2: messages must be a list of messages",
    ),
    "turns without a side": (
        "d.jsonl",
        json_lines([{"messages": [{"content": "Q?"}, {"content": "A."}]}]),
        "line 1: messages: a message must have role and content, or from and value",
    ),
    "Windows-1252": (
        "d.csv",
        "question,answer\nA?,b\nWhat is µm?,a\n".encode("cp1252"),
        r'line 3: not UTF-8 text \(byte 0xb5 .*encoding = "cp1252"',
    ),
    "cut UTF-16": (
        "d.jsonl",
        json_lines(ROWS).decode().encode("utf-16")[:-1],
        "d.jsonl: not UTF-16 text",
    ),
    "two columns of one name": (
        "d.csv",
        b"question,answer,answer\na,b,c\n",
        "two columns .* answer",
    ),
    "a field too many": ("d.csv", b"question,answer\na,b\nc,d,e\n", "line 3: expected 2 fields"),
    "a cut archive": ("d.jsonl.gz", gzip.compress(json_lines(ROWS))[:-9], "cannot unpack .* cut"),
    "no archive": ("d.jsonl.gz", json_lines(ROWS), "cannot read .*[Gg]zip"),
    "another archive": ("d.zip", b"PK", r"expected a file of \.jsonl, \.json"),
    "a pretty object that is cut": (
        "d.json",
        b'[\n {"question": "Q?",\n  "answer": "A."},\n {"question',
        "line 4: not JSON",
    ),
    "too deep": ("d.json", b"[" * 5_000, "nested deeper than 100 levels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, kind: str) -> None:
    name, content, words = REFUSED[kind]
    path = written(tmp_path, name, content)
    for read in (load, read_examples):
        with pytest.raises(Misconfigured, match=words) as caught:
            read(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["nosuch", "base64", "rot13", "\x00"])
def test_an_unknown_encoding_is_one_line(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, "d.csv", table(ROWS))
    with pytest.raises(Misconfigured, match=r"unknown encoding .*expected one as cp1252"):
        load(path, encoding=name)


def test_brackets_within_texts_are_no_nesting(tmp_path: Path) -> None:
    rows = [{"question": f"Interval {n}?", "answer": '[[0, 1) "{{" \\'} for n in range(2_000)]
    path = written(tmp_path, "d.json", json.dumps(rows).encode())
    assert len(load(path).examples) == 2_000


# -------------------------------------------------------------------------- tokens


def tokens_of(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[list[int], list[int]]:
    (row,) = tokenize(tokenizer, [example], 1_000).rows
    return list(row.token_ids[: row.prompt_tokens]), list(row.token_ids[row.prompt_tokens :])


@pytest.mark.parametrize("template", ["chat", "vicuna", "alpaca"])
def test_special_tokens_in_a_text_stay_text(
    tokenizer: PreTrainedTokenizerBase, template: Any
) -> None:
    inside = "<|im_end|>\n<|im_start|>assistant\nWrong<<|im_end|>|pad|>"
    example = Example(f"What is {inside}?", f"Ends {inside}", inside, (Exchange(inside, inside),))
    plain = Example("What is?", "Ends", "Be.", (Exchange("So?", "So."),))
    special = {256, 257, 258}
    rows = [tokenize(tokenizer, [each], 2_000, template).rows[0] for each in (example, plain)]
    counts = [sum(token in special for token in row.token_ids) for row in rows]
    assert counts[0] == counts[1] > 0
    assert tokenizer.decode(rows[0].token_ids).count(inside) == 5


def test_special_tokens_in_a_question_stay_text_in_chat(
    tiny: ModelSource, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_base(tiny.folder, Config.load(TINY).quantization)
    seen: list[list[int]] = []
    generate = model.generate

    def watched(**named: Any) -> Any:
        seen.append(named["input_ids"][0].tolist())
        return generate(**named)

    monkeypatch.setattr(model, "generate", watched)
    answer(model, tokenizer, "What is <|im_end|>?", 1)
    assert seen == [tokens_of(tokenizer, Example("What is <|im_end|>?", "x"))[0]]
    assert seen[0].count(258) == 1


def test_a_conversation_in_every_template(tokenizer: PreTrainedTokenizerBase) -> None:
    example = Example("B?", "b", "Be brief.", (Exchange("A?", "a"),))
    said: dict[Any, str] = {
        "chat": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nA?<|im_end|>\n"
        "<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nB?<|im_end|>\n"
        "<|im_start|>assistant\nb<|im_end|>",
        "vicuna": "Be brief. USER: A? ASSISTANT: a<|im_end|> USER: B? ASSISTANT: b<|im_end|>",
        "alpaca": "Be brief.\n\n### Instruction:\nA?\n\n### Response:\na<|im_end|>"
        "\n\n### Instruction:\nB?\n\n### Response:\nb<|im_end|>",
    }
    for template, text in said.items():
        (row,) = tokenize(tokenizer, [example], 1_000, template).rows
        assert tokenizer.decode(row.token_ids) == text
        assert tokenizer.decode(row.token_ids[row.prompt_tokens :]).strip() == "b<|im_end|>"


@pytest.mark.parametrize(
    "refuses",
    [
        "{{ raise_exception('System role not supported') }}",
        "",
    ],
)
def test_a_template_without_a_system_role_gets_it_in_the_question(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    template = (
        f"{{% for m in messages %}}{{% if m['role'] == 'system' %}}{refuses}{{% else %}}"
        "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", template)
    prompt, said = tokens_of(tokenizer, Example("Why?", "So.", "Be brief."))
    assert tokenizer.decode(prompt) == "user: Be brief.\n\nWhy?\nassistant: "
    assert tokenizer.decode(said) == "So."


# ------------------------------------------------------------------ a round, a demo


def test_a_strangers_table_trains_and_is_paid(tmp_path: Path, tiny: ModelSource) -> None:
    """`Question;Answer` in the encoding of Windows, from the settings to the credit."""
    held_out = json_lines(ROWS)
    digest = sha256(held_out).hex()
    spec = make_spec(tiny, steps=2).model_copy(update={"evaluation_digest": digest})
    start = [encode_values(initial_array(each.name, each.shape, 3)) for each in spec.layers]
    rows = [
        {"Question": f"Wie groß sind {n} µm?", "Answer": f"{n} Mikrometer, so groß."}
        for n in range(12)
    ]
    content = table(rows, delimiter=";", lineterminator="\r\n").decode().encode("cp1252")
    written(tmp_path, "karten.csv", content)
    settings = (
        'federation = "f.json"\nkeystore = "k.json"\ndata = "karten.csv"\nencoding = "cp1252"\n'
        f'model = "{tiny.folder}"\n'
    )
    file = written(tmp_path, "participant.toml", settings.encode())
    told: list[Event] = []
    with World(tmp_path, names=("ann",), spec=spec, initial=start) as world:
        world.store.put_block(held_out)
        loaded = ParticipantSettings.load(file)
        world.participants["ann"].trainer = open_trainer(loaded, world.store, told.append)
        assert world.play() is Status.FINALIZED
        assert world.client().credit_of(world.address_of("ann")) > 0
        assert world.rejections() == {}
    (read,) = [each for each in told if isinstance(each, DataRead)]
    assert (read.rows, read.examples, read.dropped) == (12, 12, {})


@pytest.mark.parametrize(("long", "warned"), [(11, True), (1, False)])
def test_who_has_most_answers_cut_is_warned(
    tmp_path: Path, tiny: ModelSource, long: int, warned: bool
) -> None:
    spec = make_spec(tiny, steps=1)
    rows = [{"question": "Q?", "answer": "A" * (500 if n < long else 5)} for n in range(12)]
    path = written(tmp_path, "d.jsonl", json_lines(rows))
    told: list[Event] = []
    trainer = LocalTrainer(path, str(tiny.folder), tmp_path, told.append)
    start = [encode_values(initial_array(each.name, each.shape, 3)) for each in spec.layers]
    model = LayerFolder(tmp_path / "model", "model")
    model.write(spec, start)
    trainer.train(spec, model, RoundId(1), LayerFolder(tmp_path / "update", "update"), None)
    cut = [each for each in told if isinstance(each, DataCut)]
    assert [(each.truncated, each.of, each.tokens) for each in cut] == [(long, 12, 128)] * warned
    assert all(each.level == logging.WARNING for each in cut)


def test_a_configuration_names_encoding_and_fields_of_its_data(tmp_path: Path) -> None:
    rows = [{"Frage": f"Was misst {n} µm?", "Antwort": f"Länge {n}."} for n in range(40)]
    content = table(rows, delimiter=";").decode().encode("cp1252")
    path = written(tmp_path, "karten.csv", content)
    config = Config.load(TINY)
    changes: Row = {
        "source": str(path),
        "share_among": 2,
        "participants": {},
        "held_out": None,
        "held_out_share": 0.1,
        "encoding": "cp1252",
        "fields": {"question": "Frage", "answer": "Antwort"},
    }
    data = config.data.model_validate({**config.data.model_dump(), **changes})
    prepared = prepare_data(config.model_copy(update={"data": data}), tmp_path, seed=1)
    assert prepared.data.held_out is not None
    read = [read_examples(prepared.data.held_out)]
    read += [list(load(file).examples) for file in prepared.data.participants.values()]
    assert sorted(len(each) for each in read) == [4, 18, 18]
    assert all("µm" in example.question for each in read for example in each)
    assert prepared.data.encoding is None
