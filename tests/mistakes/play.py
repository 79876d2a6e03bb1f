"""Play the mistakes of tests/mistakes/cases.py, and write docs/mistakes.md (`make docs`)."""

import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from commonweight.cli import main
from ethereum.wallet import Wallet
from runtime.processes import free_port
from tests.mistakes.cases import ROOT, SECTIONS, WALLET, Mistake, good_files

TARGET: Final = ROOT / "docs" / "mistakes.md"
INTRODUCTION: Final = """# Mistakes and their answers

What mistyped commands, settings and files answer: one line on stderr, and 1 or 2 as the exit code. Made by `make docs`,
which types them all; a test does it too, and compares. What to do about a message is in
[Troubleshooting](troubleshooting.md).
"""
KEY: Final = bytes(range(1, 33))


@dataclass(frozen=True)
class Answer:
    """What a mistake led to."""

    mistake: Mistake
    code: int
    stderr: str

    def row(self) -> str:
        """Return it as a row of the table."""
        said = self.stderr.strip().replace("|", "\\|")
        ticks = "``" if "`" in said else "`"
        pad = " " if "`" in said else ""
        told = self.mistake.told.replace("|", "\\|")
        return (
            f"| `{self.mistake.line}` | {told} | {ticks}{pad}{said}{pad}{ticks} | {self.code} |\n"
        )


def page(sections: Mapping[str, list[Answer]]) -> str:
    """Return docs/mistakes.md of these answers."""
    text = INTRODUCTION
    for title, answers in sections.items():
        text += f"\n## {title}\n\n| typed | where | answer | exit code |\n|---|---|---|---|\n"
        text += "".join(answer.row() for answer in answers)
    return text


def play_all() -> dict[str, list[Answer]]:
    """Play every mistake, each in a folder of its own."""
    wallet = _wallet()
    return {title: [play(each, wallet) for each in cases] for title, cases in SECTIONS.items()}


def play(mistake: Mistake, wallet: bytes) -> Answer:
    """Type it in a folder with its files, in this process, and return what it answered."""
    with tempfile.TemporaryDirectory() as folder, _within(Path(folder)), _taken_port() as port:
        stands_for = {"{NOBODY}": f"http://127.0.0.1:{free_port()}", "{TAKEN}": str(port)}
        _write(mistake, wallet, stands_for)
        arguments = shlex.split(_with(mistake.line, stands_for))[1:]
        environment = {"COMMONWEIGHT_HOME": str(Path(folder) / "home")}
        done = CliRunner().invoke(main, arguments, input=mistake.typed, env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise AssertionError(f"{mistake.line}: {done.exception!r}") from done.exception
        said = done.stderr
        for word, meaning in stands_for.items():
            said = said.replace(meaning, word.strip("{}"))
        return Answer(mistake, done.exit_code, said.replace(os.path.realpath(folder), "…"))


def _with(text: str, stands_for: Mapping[str, str]) -> str:
    for word, meaning in stands_for.items():
        text = text.replace(word, meaning)
    return text


def _write(mistake: Mistake, wallet: bytes, stands_for: Mapping[str, str]) -> None:
    for name, content in {**good_files(), WALLET: wallet, **mistake.files}.items():
        if content is not None:
            text = _with(content, stands_for) if isinstance(content, str) else content
            path = Path(name)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
            path.chmod(mistake.modes.get(name, 0o600))


def _wallet() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WALLET
        Wallet.from_key(KEY.hex()).save_keystore(path, "a good password", work_factor=4096)
        return path.read_bytes()


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(page(play_all()))
