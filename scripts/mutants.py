"""Take each guard of the contract out in turn; fail when the forge tests pass without it.

    python -m scripts.mutants                  # all of contracts/src/federation
    python -m scripts.mutants Rounds.sol       # the guards of these files only
    python -m scripts.mutants --list           # what would be played

A guard is a condition that leads to `revert`, a call of `_require…` or `_check…` whose result nobody
reads, or `nonReentrant`. Each is tried in a copy of contracts/ under build/mutants. Several runs may
share the work: a mutant that another process plays is left to it, and a killed one is not played
again unless its file changed or --again is given.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CONTRACTS: Final = ROOT / "contracts"
SOURCES: Final = "src/federation"
BUILD: Final = ROOT / "build" / "mutants"
SECONDS: Final = 900  # a mutant may loop
# What a guard protects shows in few cases; the deep profile has its own target.
FEWER_CASES: Final = {"FOUNDRY_FUZZ_RUNS": "16", "FOUNDRY_INVARIANT_RUNS": "4"}
FORGE_TEST: Final = ("test", "--fail-fast", "--match-path", "test/federation/**")

_CONDITION: Final = re.compile(r"\bif \(")
_REVERTS: Final = re.compile(r"\s*(?:\{\s*)?revert\b")
_CALL: Final = re.compile(r"^[ ]+(?:\w+\.)?_?(?:require|check)\w*\(", re.MULTILINE)
_REENTRANCY: Final = re.compile(r"\bnonReentrant\b")
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Mutant:
    """A guard and the text of its file without it."""

    file: str
    line: int
    guard: str
    text: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.file}\n{self.text}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """What became of a mutant: `killed` by a test, `survived`, `broken` (no code) or `late`."""

    file: str
    line: int
    guard: str
    outcome: str
    by: str
    seconds: int


def find_mutants(path: Path) -> list[Mutant]:
    """Return one mutant for each guard of a source file, in the order of their lines."""
    source = path.read_text(encoding="utf-8")
    code = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)
    spans: list[tuple[int, int, str]] = []
    for match in _CONDITION.finditer(code):
        end = _closing(code, match.end() - 1)
        if _REVERTS.match(code, end + 1):
            spans.append((match.end(), end, f"false && ({source[match.end() : end]})"))
    for match in _CALL.finditer(code):
        end = _closing(code, match.end() - 1)
        if code[end + 1] == ";":
            start = match.end() - len(match[0].lstrip())
            spans.append((start, end + 2, "{}"))
    spans.extend((match.start(), match.end(), "") for match in _REENTRANCY.finditer(code))
    return [
        Mutant(
            file=path.name,
            line=source.count("\n", 0, start) + 1,
            guard=" ".join(source[start:end].split()),
            text=source[:start] + replacement + source[end:],
        )
        for start, end, replacement in sorted(spans)
    ]


def _closing(code: str, opening: int) -> int:
    """Return the position of the bracket that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(code)):
        depth += {"(": 1, ")": -1}.get(code[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"the bracket at {opening} is never closed")


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Yield whether this process now holds `path`; the kernel lets go of it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def _workspace() -> Iterator[Path]:
    """Yield a copy of contracts/ that no other process uses, with forge's cache of the last run."""
    for number in range(64):
        with _locked(BUILD / f"copy-{number}.lock") as is_mine:
            if not is_mine:
                continue
            copy = BUILD / f"copy-{number}" / "contracts"
            _refresh(copy)
            yield copy
            return
    raise RuntimeError("64 runs at once")


def _refresh(copy: Path) -> None:
    copy.mkdir(parents=True, exist_ok=True)
    for name in ("src", "test"):
        shutil.rmtree(copy / name, ignore_errors=True)
        shutil.copytree(CONTRACTS / name, copy / name)
    for name in ("foundry.toml", "remappings.txt"):
        shutil.copy2(CONTRACTS / name, copy / name)
    for link, target in (
        (copy / "node_modules", CONTRACTS / "node_modules"),
        (copy / "tools", CONTRACTS / "tools"),
        (copy.parent / "tests", ROOT / "tests"),
    ):
        if not link.exists():
            link.symlink_to(target)


def _play(mutant: Mutant, copy: Path) -> Result:
    target = copy / SOURCES / mutant.file
    original = target.read_text(encoding="utf-8")
    started = time.monotonic()
    target.write_text(mutant.text, encoding="utf-8")
    try:
        outcome, by = _forge(copy)
    finally:
        target.write_text(original, encoding="utf-8")
    seconds = round(time.monotonic() - started)
    return Result(mutant.file, mutant.line, mutant.guard, outcome, by, seconds)


def _forge(copy: Path) -> tuple[str, str]:
    """Return what the tests say of the sources in `copy`, and the first test that failed."""
    command = [str(copy / "node_modules" / ".bin" / "forge"), *FORGE_TEST]
    try:
        run = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, **FEWER_CASES},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "late", ""
    if run.returncode == 0:
        return "survived", ""
    failed = re.search(r"\[FAIL.*\] (\w+)", run.stdout)
    if failed is None:
        return "broken", (run.stdout + run.stderr).strip()[-300:]
    return "killed", failed[1]


def _stored(mutant: Mutant) -> Result | None:
    """Return the result of an earlier run, with today's line."""
    with suppress(FileNotFoundError):
        stored = json.loads((BUILD / f"{mutant.key}.json").read_text(encoding="utf-8"))
        return Result(**{**stored, "line": mutant.line})
    return None


def _store(mutant: Mutant, result: Result) -> None:
    path = BUILD / f"{mutant.key}.json"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(result)), encoding="utf-8")
    draft.replace(path)


def _row(result: Result) -> str:
    place = f"{result.file}:{result.line}"
    return f"{result.outcome:9}{place:26}{result.seconds:4} s  {result.guard[:70]:70}  {result.by}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all guards; return 1 unless a test fails without each of them."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", help="names of source files; default: all")
    parser.add_argument("--list", action="store_true", help="print the guards and play none")
    parser.add_argument("--again", action="store_true", help="play killed mutants again")
    options = parser.parse_args(arguments)
    paths = sorted((CONTRACTS / SOURCES).glob("*.sol"))
    mutants = [
        mutant
        for path in paths
        if not options.files or path.name in options.files
        for mutant in find_mutants(path)
    ]
    if options.list or not mutants:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line}  {mutant.guard}")
        return 0 if mutants else 1
    return _play_all(mutants, options.again)


def _play_all(mutants: Sequence[Mutant], again: bool) -> int:
    results: list[Result | None] = []
    with _workspace() as copy:
        # Without this every mutant would look killed by whatever is broken anyway.
        if (clean := _forge(copy)) != ("survived", ""):
            print(f"the tests fail without any mutant: {clean}", file=sys.stderr)
            return 1
        for mutant in mutants:
            with _locked(BUILD / f"{mutant.key}.lock") as is_mine:
                result = None if again else _stored(mutant)
                if is_mine and (result is None or result.outcome != "killed"):
                    result = _play(mutant, copy)
                    _store(mutant, result)
            if result is not None:
                print(_row(result), flush=True)
            results.append(result)
    others = results.count(None)
    bad = [result for result in results if result is not None and result.outcome != "killed"]
    print(f"{len(mutants)} guards, {len(bad)} not killed, {others} left to other runs")
    for result in bad:
        print(_row(result))
    return 1 if bad or others else 0


if __name__ == "__main__":
    sys.exit(main())
