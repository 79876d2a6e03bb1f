"""Rows of every format to examples, with a report of what was dropped or comes twice."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Misconfigured, Unavailable
from training.examples import (
    DataReport,
    Example,
    Fields,
    load,
    read_examples,
    split_validation,
    text_digest,
)
from training.partition import partition_by_group, partition_dirichlet, partition_iid

CARDS = [{"question": f"Q {n}?", "answer": f"A {n}", "topic": f"t{n % 3}/x"} for n in range(30)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"question": "Q", "answer": "A"}', Example("Q", "A")),
        ('{"instruction": "Q", "output": "A"}', Example("Q", "A")),
        ('{"instruction": "Q", "input": "", "response": "A"}', Example("Q", "A")),
        ('{"instruction": "Q", "input": "I", "response": "A"}', Example("Q\n\nI", "A")),
        ('{"instruction": "Q", "context": "I", "response": "A"}', Example("Q\n\nI", "A")),
        # U+2028 ends a line for str.splitlines, but not in a file.
        ('{"question": "Q\u2028q", "answer": "A", "id": 7}', Example("Q\u2028q", "A")),
    ],
)
def test_forms_of_a_line(tmp_path: Path, line: str, expected: Example) -> None:
    file = tmp_path / "cards.jsonl"
    file.write_text(f"\n{line}\n\n{line}", encoding="utf-8")
    assert read_examples(file) == [expected, expected]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"cards.jsonl is empty"),
        (b"\n \n", r"cards.jsonl is empty"),
        (b'{"question": "Q", "answer": "A"}\n{"question": 1}', r"line 2: question must be text"),
        (b'{"question": "Q"}', r"line 1: there is no answer"),
        (b'{"question": " ", "answer": "A"}', r"line 1: there is no question"),
        (b'{"instruction": "Q"}', r"line 1: there is no response"),
        (b'{"prompt": "Q"}', r"line 1: expected fields question and answer, .*found prompt"),
        (b'{"question": "Q", "answer": null}', r"line 1: there is no answer"),
        (b'\n{"question": ', r"line 2: not JSON"),
        (b'["question"]', r"object 1: expected a JSON object"),
        (b'"question"', r"line 1: expected a JSON object"),
        (b'{"question": "\xff"}', r"line 1: not UTF-8 text"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "cards.jsonl"
    file.write_bytes(content)
    with pytest.raises(Misconfigured, match=words) as caught:
        read_examples(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*No such file"):
        read_examples(tmp_path / "nowhere.jsonl")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            table.writeheader()
            table.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_reads_alike(tmp_path: Path, suffix: str) -> None:
    rows = [*CARDS, {"question": 'Comma, "quote"\nand 猫?', "answer": "Yes, \t", "topic": ""}]
    loaded = load(write(tmp_path / f"cards{suffix}", rows))
    assert loaded.examples == tuple(Example(row["question"], row["answer"]) for row in rows)
    assert loaded.report == DataReport(rows=31, examples=31)


def test_named_fields_and_groups(tmp_path: Path) -> None:
    rows = [
        {"q": "Q", "ctx": "C", "a": "A", "id": "x/1"},
        {"q": "Q", "ctx": "", "a": "B", "id": "y"},
    ]
    path = write(tmp_path / "cards.csv", rows)
    loaded = load(path, Fields("q", "ctx", "a"), group_field="id", group_until="/")
    assert loaded.examples == (Example("Q\n\nC", "A"), Example("Q", "B"))
    assert loaded.groups == ("x", "y")
    assert load(path, Fields("q", None, "a")).examples[0] == Example("Q", "A")


def test_what_is_dropped_and_what_comes_twice_is_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Why?", "answer": "So."},
        {"question": " WHY? ", "answer": "so."},
        {"question": "Who?", "answer": None},
        {"question": " ", "answer": "Me."},
        {"question": "Where?"},
        {"question": "When?", "answer": "Now."},
    ]
    path = write(tmp_path / "cards.jsonl", rows)
    report = load(path, held_out=[Example("when?", "NOW."), Example("What?", "That.")]).report
    assert report == DataReport(
        rows=6,
        examples=3,
        dropped={"no answer": 2, "no question": 1},
        duplicates=1,
        in_held_out=1,
    )


@pytest.mark.parametrize(
    ("rows", "fields", "words"),
    [
        ([{"a": "b"}], Fields("q", None, "a"), r"has no field 'q': it has a"),
        ([{"q": "b"}], Fields("q", "c", "q"), r"has no field 'c': it has q"),
        ([{"q": "b"}], Fields("q"), r"need both a question and an answer"),
        ([{"text": "b"}], Fields(), r"line 1: expected fields question and answer, .*found text"),
        ([{"question": "Q", "answer": ""}], Fields(), r"no example .*1 rows, 1 with no answer"),
        ([{"question": "Q", "answer": 3}], Fields(), r"line 1: answer must be text, not int"),
    ],
)
def test_data_that_cannot_be_used_is_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], fields: Fields, words: str
) -> None:
    with pytest.raises(Misconfigured, match=words) as caught:
        load(write(tmp_path / "cards.jsonl", rows), fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cards.txt", b"Q", r"expected a file of \.jsonl, \.json, \.csv"),
        ("cards.csv", b"question,answer\nQ\n", r"line 2: expected 2 fields"),
        ("cards.csv", b"question,answer\n\xff,A\n", r"not UTF-8"),
        ("cards.csv", b'question,answer\n"Q"x,A\n', r"line 2: "),
        ("cards.parquet", b"PAR1", r"not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Misconfigured, match=words) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_date_that_python_has_none_for_is_one_line(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    later = pyarrow.array([0, 2**62]).view(pyarrow.timestamp("us"))
    table = pyarrow.table({"question": ["Q", "Q"], "answer": ["A", "A"], "time": later})
    parquet.write_table(table, tmp_path / "cards.parquet")
    with pytest.raises(Misconfigured, match="from row 1 on: a date or number that is too large"):
        load(tmp_path / "cards.parquet")


def test_an_empty_data_set_is_one_line(tmp_path: Path) -> None:
    for name in ("cards.jsonl", "cards.csv"):
        (tmp_path / name).write_text("")
        with pytest.raises(Misconfigured, match=f"{name} is empty: expected questions"):
            load(tmp_path / name)


def test_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(name: str, revision: str | None, split: str) -> list[dict[str, str]]:
        asked.append((name, revision, split))
        return CARDS

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert len(load("hub:owner/name@abc").examples) == 30
    load("hub:owner/name")
    assert asked == [("owner/name", "abc", "train"), ("owner/name", None, "train")]

    def offline(*arguments: object, **named: object) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(Unavailable, match=r"cannot fetch data set owner/name .*ConnectionError"):
        load("hub:owner/name")


def test_the_validation_part_depends_on_the_text_alone() -> None:
    examples = [Example(f"Q{n}", "A") for n in range(1000)]
    training, validation = split_validation(examples, 0.2, seed=1)
    assert sorted([*training, *validation], key=examples.index) == examples
    assert 150 < len(validation) < 250
    assert split_validation(examples[::-1], 0.2, seed=1)[1] == validation[::-1]
    assert split_validation(examples, 0.2, seed=2)[1] != validation
    twice = [Example("q0 ", "a") if n % 2 else Example("Q0", "A") for n in range(8)]
    with pytest.raises(Misconfigured, match="leaves none for"):
        split_validation(twice, 0.5, seed=1)
    assert split_validation(examples, 0, seed=1) == (examples, [])


def test_text_digests() -> None:
    assert text_digest(Example("A  b\n", "C")) == text_digest(Example("a b", "c"))
    assert text_digest(Example("\ufb01t", "x")) == text_digest(Example("FIT", "x"))  # NFKC
    assert text_digest(Example("ab", "c")) != text_digest(Example("a", "bc"))


@given(
    groups=st.lists(st.sampled_from("abcd"), min_size=40, max_size=120),
    participants=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_example_goes_to_one_participant(
    groups: list[str], participants: int, seed: int
) -> None:
    shared = [
        partition_iid(len(groups), participants, seed),
        partition_dirichlet(groups, participants, 5.0, seed, smallest=1),
    ]
    if len(set(groups)) >= participants:
        shared.append(partition_by_group(groups, participants))
    for parts in shared:
        assert len(parts) == participants
        assert min(len(part) for part in parts) > 0
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(groups)))


def test_alpha_decides_how_unlike_the_participants_are() -> None:
    groups = [f"g{n % 4}" for n in range(800)]

    def largest_share(alpha: float) -> float:
        parts = partition_dirichlet(groups, 4, alpha, seed=3)
        return float(np.mean([max(Counter(groups[i] for i in p).values()) / len(p) for p in parts]))

    assert largest_share(0.1) > 0.6 > 0.35 > largest_share(100.0)
    parts = partition_iid(800, 3, seed=3)
    assert {len(part) for part in parts} == {266, 267}
    assert max(Counter(groups[i] for i in parts[0]).values()) < 90


def test_whole_groups_stay_together() -> None:
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 3 + ["d"]
    parts = partition_by_group(groups, 2)
    held = [{groups[i] for i in part} for part in parts]
    assert not held[0] & held[1]
    assert sorted(len(part) for part in parts) == [6, 6]


def test_too_few_examples_are_one_line() -> None:
    with pytest.raises(Misconfigured, match="3 examples are too few for 4 participants"):
        partition_iid(3, 4, 0)
    with pytest.raises(Misconfigured, match=r"Dirichlet\(0.001\) gave somebody fewer than 10"):
        partition_dirichlet(["a"] * 100, 8, 0.001, 0)
    with pytest.raises(Misconfigured, match="1 values, too few for 2"):
        partition_by_group(["a"] * 9, 2)
