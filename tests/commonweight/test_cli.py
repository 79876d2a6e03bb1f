"""The command line: what people mistype, and what an auditor's light install must not need."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from commonweight.cli import NOUNS, main
from tests.commonweight.program import TINY, Program
from tests.passwords import write_password

HEAVY = {"torch", "transformers", "peft", "flwr", "ray", "eth_tester", "eth", "solcx"}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_every_mistake_in_a_configuration_is_told_at_once(program: Program, tmp_path: Path) -> None:
    text = TINY.read_text().replace("rank = 4", 'rank = "four"').replace("rounds = 3", "round = 3")
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    error = program.here("demo", "--config", str(path), code=1)
    assert len(error.strip().splitlines()) == 1
    near = "seats.round: there is no such key; did you mean rounds?"
    for words in ("adapter.rank", "seats.rounds", near):
        assert words in error


def test_the_federation_of_the_folder_one_is_in_is_meant(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "federation.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    error = program.here("federation", "show", code=1)
    assert error.startswith("error: federation file federation.json: ")


def test_a_missing_data_file_is_told_before_anything_starts(
    program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "moved.toml"
    path.write_text(TINY.read_text())
    assert "no file" in program.here("demo", "--config", str(path), code=1)
    assert not (tmp_path / "devnet").exists()


@pytest.mark.parametrize("option", ["--rpc", "--ipfs"])
def test_an_endpoint_that_does_not_answer_is_told_before_anything_starts(
    program: Program, tmp_path: Path, option: str
) -> None:
    error = program.here("demo", option, "http://127.0.0.1:1", code=1)
    assert len(error.strip().splitlines()) == 1
    assert "http://127.0.0.1:1" in error
    assert not list(tmp_path.rglob("runs"))


def test_keys_are_made_and_kept_from_others(program: Program, tmp_path: Path) -> None:
    password = tmp_path / "password"
    write_password(password, "long enough\n")
    wallet = tmp_path / "wallet.json"
    address = program.here("keys", "new", str(wallet), "--password-file", str(password)).strip()
    assert address.startswith("0x")
    assert wallet.stat().st_mode & 0o777 == 0o600
    error = program.here("keys", "new", str(wallet), "--password-file", str(password), code=1)
    assert "never overwritten" in error


def test_no_noun_needs_anything_heavy() -> None:
    """What `pip install .` gives must be enough: no torch, no Flower, no dev chain."""
    # One process for all: what none of them imports in it, none imports alone.
    nouns = [(noun, "--help") for noun in NOUNS if noun != "audit"]
    assert not HEAVY & loaded_by(("audit", "run", "--help"), *nouns)


def test_help_lists_the_nouns_without_importing_them() -> None:
    loaded = loaded_by(("--help",))
    assert not {"web3", "pydantic", "numpy", "commonweight.cli.options"} & loaded


def test_the_summaries_listed_are_the_nouns_own() -> None:
    context = click.Context(main)
    for noun, summary in NOUNS.items():
        command = main.get_command(context, noun)
        assert command is not None
        assert command.name == noun
        assert command.get_short_help_str(limit=1000) == summary
    assert main.get_command(context, "aggregate") is None


def loaded_by(*lines: tuple[str, ...]) -> set[str]:
    """Return the modules that command lines import, in a process of their own."""
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from commonweight.cli import main\n"
        f"for line in {lines!r}:\n"
        "    assert CliRunner().invoke(main, line).exit_code == 0, line\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
