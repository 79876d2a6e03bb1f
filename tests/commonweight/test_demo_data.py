"""One data set shared out among participants, and what is told before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from commonweight.demo.shards import prepare_data
from protocol.errors import Misconfigured
from sponsor.config import Config
from tests.commonweight.program import TINY, Program
from training.examples import read_examples, text_digest

PARTITIONS = {
    "iid": 'partition = { kind = "iid" }',
    "dirichlet": 'partition = { kind = "dirichlet", field = "topic", until = "/", alpha = 0.5 }',
    "field": 'partition = { kind = "field", field = "topic", until = "/" }',
}


def config_text(data: str) -> str:
    """The tiny configuration with another [data]."""
    head, _, rest = TINY.read_text().partition("[data]")
    _, _, tail = rest.partition("[seats]")
    return f"{head}[data]\n{data}\n\n[seats]{tail}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Q {n}?", "reply": f"A {n}", "topic": f"t{n % 4}/{n}"} for n in range(200)]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows[:20]]))
    return path


def load_config(folder: Path, data: str) -> Config:
    path = folder / "config.toml"
    path.write_text(config_text(data))
    return Config.load(path)


FIELDS = 'fields = { question = "prompt", answer = "reply" }'


@pytest.mark.parametrize("kind", PARTITIONS)
def test_a_source_is_shared_out(tmp_path: Path, source: Path, kind: str) -> None:
    lines = ['source = "all.jsonl"', FIELDS, PARTITIONS[kind], "share_among = 4"]
    config = load_config(tmp_path, "\n".join([*lines, "held_out_share = 0.1"]))
    assert config.data.names == [f"participant-{number}" for number in (1, 2, 3, 4)]
    prepared = prepare_data(config, tmp_path / "data", seed=1).data
    assert prepared.held_out is not None
    held_out = read_examples(prepared.held_out)
    assert len(held_out) == 22
    shares = [read_examples(file) for file in prepared.participants.values()]
    private = [text_digest(example) for share in shares for example in share]
    public = {text_digest(example) for example in held_out}
    assert not public & set(private)  # copies of a held-out example are nobody's
    assert len(public | set(private)) == 200
    again = prepare_data(config, tmp_path / "again", seed=1).data
    assert [read_examples(file) for file in again.participants.values()] == shares
    other = prepare_data(config, tmp_path / "other", seed=2).data
    assert [read_examples(file) for file in other.participants.values()] != shares
    if kind == "field":
        assert all(len({int(e.question[2:-1]) % 4 for e in share}) == 1 for share in shares)


def test_a_source_with_a_held_out_file_of_its_own(tmp_path: Path, source: Path) -> None:
    (tmp_path / "held.jsonl").write_text('{"question": "q 3?", "answer": "A 3"}\n')
    lines = ['source = "all.jsonl"', FIELDS, "share_among = 2", 'held_out = "held.jsonl"']
    prepared = prepare_data(load_config(tmp_path, "\n".join(lines)), tmp_path / "data", 1).data
    assert prepared.held_out == tmp_path / "held.jsonl"
    assert sum(len(read_examples(file)) for file in prepared.participants.values()) == 220


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('source = "all.jsonl"\nshare_among = 4', "held_out_share with a source"),
        ("share_among = 4\nheld_out_share = 0.1", "and share_among together"),
        (
            'source = "all.jsonl"\nshare_among = 4\nheld_out_share = 0.1\nheld_out = "all.jsonl"',
            "not both",
        ),
        (
            'source = "all.jsonl"\nshare_among = 4\nheld_out_share = 0.1\n'
            'partition = { kind = "dirichlet" }',
            "dirichlet needs the field to group by",
        ),
        ('source = "no.jsonl"\nshare_among = 4\nheld_out_share = 0.1', "no file .*no.jsonl"),
    ],
)
def test_a_wrong_data_section_is_one_line(
    tmp_path: Path, source: Path, data: str, words: str
) -> None:
    with pytest.raises(Misconfigured, match=words) as caught:
        load_config(tmp_path, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"fields": 'fields = { question = "ask", answer = "reply" }'}, "no field 'ask': it has"),
        ({"partition": 'partition = { kind = "field", field = "no" }'}, "no field 'no': it has"),
        ({"among": "share_among = 120"}, "too few for 120 participants"),
    ],
)
def test_data_that_does_not_fit_the_configuration(
    tmp_path: Path, source: Path, data: dict[str, str], words: str
) -> None:
    lines = {
        "source": 'source = "all.jsonl"',
        "fields": FIELDS,
        "partition": 'partition = { kind = "dirichlet", field = "topic" }',
        "among": "share_among = 4",
        "share": "held_out_share = 0.1",
    }
    config = load_config(tmp_path, "\n".join((lines | data).values()))
    with pytest.raises(Misconfigured, match=words):
        prepare_data(config, tmp_path / "data", seed=1)


def test_another_source_on_the_command_line(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config_text('source = "no.jsonl"\nshare_among = 2\nheld_out_share = 0.1'))
    config = Config.load(path, str(source))
    assert config.data.source == str(source)
    assert Config.load(path, "hub:owner/name").data.source == "hub:owner/name"


def test_empty_data_is_told_before_anything_starts(tmp_path: Path, source: Path) -> None:
    program = Program(tmp_path / "home")
    source.write_text("")
    path = tmp_path / "config.toml"
    path.write_text(config_text('source = "all.jsonl"\nshare_among = 2\nheld_out_share = 0.1'))
    error = program.here("demo", "--config", str(path), code=1)
    assert error.strip().endswith("all.jsonl is empty: expected questions and answers")
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.glob("home/runs/*"))
    assert not (tmp_path / "home" / "devnet").exists()


@pytest.mark.slow
def test_the_demo_shares_out_and_tells_what_it_read(tmp_path: Path, source: Path) -> None:
    """Two rounds over two participants, one group each, with a validation share."""
    program = Program(tmp_path / "home")
    path = tmp_path / "config.toml"
    lines = ['source = "all.jsonl"', FIELDS, PARTITIONS["field"], "share_among = 2"]
    text = config_text("\n".join([*lines, "held_out_share = 0.1", "validation = 0.2"]))
    path.write_text(text.replace("rounds = 3", "rounds = 2"))
    result: dict[str, Any] = program.json("demo", "--config", str(path), "--seed", "3")
    assert result["audit"]["failed"] == 0
    assert set(result["data"]) == {"participant-1", "participant-2"}
    for facts in result["data"].values():
        assert facts["rows"] == facts["examples"] == facts["training"] + facts["validation"]
        assert facts["in_held_out"] == 0
    for row in result["rounds"]:
        assert set(row["validation"]) == set(result["data"])
        for losses in row["validation"].values():
            assert losses["own"] < losses["model"]
