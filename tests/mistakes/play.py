"""Play the mistakes of tests/mistakes/cases.py, and write docs/mistakes.md (`make docs`)."""

import os
import re
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
from devnet import daemons
from ethereum.wallet import Wallet
from runtime.processes import free_port
from tests.mistakes.cases import ROOT, SECTIONS, WALLET, Mistake, good_files

TARGET: Final = ROOT / "docs" / "mistakes.md"
INTRODUCTION: Final = """# Mistakes and their answers

What mistyped commands, settings and files answer: one line on stderr, and 1 or 2 as the exit code.
Made by `make docs`, which types them all; a test does it too, and compares. TAKEN is a port in use,
NOBODY an address where nothing listens, CHAIN and IPFS are a devnet's. What to do about a message
is in [Troubleshooting](troubleshooting.md).
"""
_NO_BRACES: Final = str.maketrans("", "", "{}")
KEY: Final = bytes(range(1, 33))


@dataclass(frozen=True)
class Answer:
    """What a mistake led to; `line` is what the user reads first."""

    mistake: Mistake
    code: int
    stderr: str
    line: str

    def row(self) -> str:
        """Return it as a row of the table."""
        cells = (f"commonweight {self.mistake.line.translate(_NO_BRACES)}", self.line)
        typed, said = (f"`` {cell} ``" if "`" in cell else f"`{cell}`" for cell in cells)
        row = f"| {typed} | {self.mistake.told} | {said} | {self.code} |\n"
        return re.sub(r"(?<! )\|(?! |\n)", r"\\|", row)


def page(sections: Mapping[str, list[Answer]]) -> str:
    """Return docs/mistakes.md of these answers."""
    text = INTRODUCTION
    for title, answers in sections.items():
        text += f"\n## {title}\n\n| typed | where | answer | exit code |\n|---|---|---|---|\n"
        text += "".join(answer.row() for answer in answers)
    return text


def play_all() -> dict[str, list[Answer]]:
    """Play every mistake, each in a folder of its own, beside one devnet."""
    wallet = _wallet()
    with tempfile.TemporaryDirectory() as folder:
        net = daemons.up(Path(folder), outlive=False)
        try:
            places = {"{CHAIN}": net.rpc_url, "{IPFS}": net.ipfs_url}
            return {
                title: [play(each, wallet, places) for each in cases]
                for title, cases in SECTIONS.items()
            }
        finally:
            daemons.down(Path(folder))


def play(mistake: Mistake, wallet: bytes, places: Mapping[str, str]) -> Answer:
    """Type it in a folder with its files, in this process, and return what it answered."""
    with tempfile.TemporaryDirectory() as folder, _within(Path(folder)), _taken_port() as port:
        nobody = f"http://127.0.0.1:{free_port()}"
        stands_for = {**places, "{NOBODY}": nobody, "{TAKEN}": str(port)}
        _write(mistake, wallet, stands_for)
        arguments = shlex.split(_with(mistake.line, stands_for))
        environment = {"COMMONWEIGHT_HOME": str(Path(folder) / "home")}
        done = CliRunner().invoke(
            main, arguments, input=mistake.typed, env=environment, prog_name="commonweight"
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise AssertionError(f"{mistake.line}: {done.exception!r}") from done.exception
        shown = {
            os.path.realpath(folder): "…",
            str(ROOT): "…",
            **{v: k.strip("{}") for k, v in stands_for.items()},
        }
        lines = [
            line for line in done.stdout.splitlines() if line.split()[1:2] == [mistake.subject]
        ]
        first = _with(lines[0] if lines else done.stderr, shown)
        return Answer(mistake, done.exit_code, done.stderr, " ".join(first.split()))


def _with(text: str, stands_for: Mapping[str, str]) -> str:
    for word, meaning in stands_for.items():
        text = text.replace(word, meaning)
    return text


def _write(mistake: Mistake, wallet: bytes, stands_for: Mapping[str, str]) -> None:
    for name, content in {**good_files(), WALLET: wallet, **mistake.files}.items():
        if content is not None:
            path = Path(name)
            text = _with(content, stands_for).encode() if isinstance(content, str) else content
            path.write_bytes(text)
            path.chmod(mistake.mode if name == WALLET else 0o600)


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
