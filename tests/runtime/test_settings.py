"""A role's settings file: paths relative to it, and mistakes told in one line."""

from pathlib import Path

import pytest

from protocol.errors import Misconfigured
from runtime.settings import Settings


class Role(Settings):
    name: str
    data: Path
    log: Path | None = None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "role.toml"
    path.write_text('name = "ann"\ndata = "cards.jsonl"\n')
    assert Role.load(path) == Role(name="ann", data=tmp_path / "cards.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "ann"', "data: this key is missing"),
        ('name = "ann"\ndata = "d"\nlgo = "x"', r"lgo: there is no such key; did you mean log\?"),
        ("name = ", "Invalid value"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "role.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=words) as error:
        Role.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        Role.load(tmp_path / "none.toml")
