"""Take each guard of the contract out in turn; fail when the forge tests pass without it.

    python -m scripts.mutants                  # all of contracts/src
    python -m scripts.mutants Rounds.sol       # the guards of these files only
    python -m scripts.mutants --list           # what would be played

A guard is a condition that leads to `revert` or to a `return` without value, a call of `require…`
or `check…` whose result nobody reads, or `nonReentrant`. All mutants are compiled at once, in a
copy of contracts/ under build/mutants: guard n is left out where block.coinbase is n, which no test
looks at and forge sets from its command line. So a mutant takes a run of the tests and no compiler.
Several runs may share the work: a mutant that another process plays is left to it, and a killed one
is not played again unless sources or tests changed or --again is given.
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
BUILD: Final = ROOT / "build" / "mutants"
# It calls the libraries from functions that are pure as long as there is no mutant.
HARNESS: Final = "test/kit/Libraries.sol"
SECONDS: Final = 900  # a mutant may loop
# Gas is measured on the contract as it is. Examples kill nearly all mutants, random cases the rest.
FORGE_TEST: Final = ("test", "--fail-fast", "--no-match-contract", "GasTest")
EXAMPLES: Final = ("--no-match-test", "testFuzz|invariant|Handler")
# Where the tests of a source are: they are played before all others.
NEAREST: Final = {
    "Availability.sol": "Requests",
    "Disputes.sol": "Verdicts|Disputes",
    "Factory.sol": "Terms",
    "Federation.sol": "Money|Aggregators|Membership|HostileTokens",
    "Lead.sol": "Opening|Aggregators|Proposals",
    "Limits.sol": "Terms",
    "Masking.sol": "Masking|MaskedRounds",
    "Membership.sol": "Membership|Submissions|Money|MaskedRounds",
    "Phases.sol": "Submissions|Opening|Disputes|Masking",
    "Proofs.sol": "Verdicts|Disputes|Requests",
    "Rounds.sol": "Opening|Proposals|Aggregators|MaskedRounds",
    "Sets.sol": "Masking|MaskedRounds|MaskedDisputes",
    "Submissions.sol": "Submissions|Masking",
    "Sums.sol": "MaskedDisputes",
    "Tokens.sol": "HostileTokens",
}
# forge asks for the version in every run, and the npm compiler takes a second to load.
SOLC: Final = """\
#!/bin/sh
case "$1" in
--version) cat "{copy}/tools/version" ;;
*) exec node "{solc}" "$@" ;;
esac
"""

_CONDITION: Final = re.compile(r"\bif \(")
_LEADS_OUT: Final = re.compile(r"\s*(?:\{\s*)?(?:revert\b|_revert\w*\(|return;)")
_CALL: Final = re.compile(r"(?:^[ ]+|\) )((?:\w+\.)?_?(?:require|check)\w*)\(", re.MULTILINE)
_REENTRANCY: Final = re.compile(r"\bnonReentrant\b")
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# OpenZeppelin's functions behind its modifier are private: the same guard, that can be left out.
_GUARD: Final = """
    modifier nonReentrantBut(uint160 mutant) {
        if (block.coinbase == address(mutant)) {
            _;
        } else {
            bool isEntered;
            assembly ("memory-safe") { isEntered := tload(0x6d7574616e7473) }
            if (isEntered) revert ReentrancyGuardReentrantCall();
            assembly ("memory-safe") { tstore(0x6d7574616e7473, 1) }
            _;
            assembly ("memory-safe") { tstore(0x6d7574616e7473, 0) }
        }
    }
"""


@dataclass(frozen=True)
class Guard:
    """A guard, its number among all of them, and what stands for text[start:end] in its place."""

    number: int
    file: str
    line: int
    text: str
    start: int
    end: int
    replacement: str


@dataclass(frozen=True)
class Result:
    """What became of a mutant: `killed` by a test, `survived`, `broken` or `late`."""

    file: str
    line: int
    guard: str
    outcome: str
    by: str
    seconds: int


def find_guards(path: Path, first: int) -> list[Guard]:
    """Return the guards of a source file in the order of their lines, numbered from `first` on."""
    source = path.read_text(encoding="utf-8")
    code = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)
    spans: list[tuple[int, int, str]] = []
    for match in _CONDITION.finditer(code):
        end = _closing(code, match.end() - 1)
        if _LEADS_OUT.match(code, end + 1):
            condition = source[match.end() : end]
            spans.append((match.end(), end, f"block.coinbase != address(@) && ({condition})"))
    for match in _CALL.finditer(code):
        end = _closing(code, match.end() - 1)
        if code[end + 1] == ";":
            call = source[match.start(1) : end + 2]
            spans.append((match.start(1), end + 2, f"if (block.coinbase != address(@)) {call}"))
    spans.extend(
        (match.start(), match.end(), "nonReentrantBut(@)") for match in _REENTRANCY.finditer(code)
    )
    return [
        Guard(
            number=first + i,
            file=path.name,
            line=source.count("\n", 0, start) + 1,
            text=" ".join(source[start:end].split()),
            start=start,
            end=end,
            replacement=replacement.replace("@", f"uint160({first + i})"),
        )
        for i, (start, end, replacement) in enumerate(sorted(spans))
    ]


def _closing(code: str, opening: int) -> int:
    """Return the position of the bracket that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(code)):
        depth += {"(": 1, ")": -1}.get(code[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"the bracket at {opening} is never closed")


def _find_all() -> list[Guard]:
    guards: list[Guard] = []
    for path in sorted((CONTRACTS / "src").glob("*.sol")):
        guards += find_guards(path, len(guards) + 1)
    return guards


def _with_mutants(source: str, guards: Sequence[Guard]) -> str:
    """Return a source file in which each guard can be left out."""
    for guard in sorted(guards, key=lambda guard: guard.start, reverse=True):
        source = source[: guard.start] + guard.replacement + source[guard.end :]
    if "nonReentrantBut(" in source:
        source = re.sub(r"(^contract [^{]*\{)", r"\1" + _GUARD, source, count=1, flags=re.MULTILINE)
    return re.sub(r"\bpure\b", "view", source)  # it reads the block now


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Yield whether this process holds `path`; the kernel lets go of it when the process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _digest() -> str:
    """Return what a copy and its results are named by: sources, tests and this script."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for folder in (CONTRACTS / "src", CONTRACTS / "test"):
        for path in sorted(folder.rglob("*.sol")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _compiled(guards: Sequence[Guard], digest: str) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Yield a copy of the contracts with all mutants, and what its tests say without any of them.

    The copy stays as it is for as long as somebody plays in it, and forge's cache outlives changes.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    copy, passed = BUILD / "contracts", BUILD / "passed"

    def is_ready() -> bool:
        return passed.exists() and passed.read_text(encoding="utf-8") == digest

    with (BUILD / "contracts.lock").open("w") as lock:
        clean = ("survived", "")
        # A lock that changes its kind is let go first: what was ready may be another's copy then.
        while clean[0] == "survived":
            fcntl.flock(lock, fcntl.LOCK_SH)
            if is_ready():
                break
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_ready():
                passed.unlink(missing_ok=True)
                _make_copy(copy, guards)
                clean = _forge(copy, 0)
                if clean[0] == "survived":
                    passed.write_text(digest, encoding="utf-8")
        yield copy, clean


def _make_copy(copy: Path, guards: Sequence[Guard]) -> None:
    for name in ("src", "test"):
        shutil.rmtree(copy / name, ignore_errors=True)
        shutil.copytree(CONTRACTS / name, copy / name)
    for path in (copy / "src").glob("*.sol"):
        own = [guard for guard in guards if guard.file == path.name]
        path.write_text(_with_mutants(path.read_text(encoding="utf-8"), own), encoding="utf-8")
    harness = copy / HARNESS
    text = harness.read_text(encoding="utf-8")
    harness.write_text(text.replace("external pure", "external view"), encoding="utf-8")
    for name in ("foundry.toml", "remappings.txt"):
        shutil.copy2(CONTRACTS / name, copy / name)
    for link, target in (
        (copy / "node_modules", CONTRACTS / "node_modules"),
        (copy.parent / "tests", ROOT / "tests"),
    ):
        if not link.exists():
            link.symlink_to(target)
    solc = CONTRACTS / "tools" / "solc"
    (copy / "tools").mkdir(exist_ok=True)
    version = subprocess.run([solc, "--version"], check=True, capture_output=True).stdout
    (copy / "tools" / "version").write_bytes(version)
    wrapper = copy / "tools" / "solc"
    wrapper.write_text(SOLC.format(copy=copy, solc=solc), encoding="utf-8")
    wrapper.chmod(0o755)


def _forge(copy: Path, number: int, *arguments: str) -> tuple[str, str]:
    """Return what the tests say without guard `number` (0: none), and the first one that failed."""
    coinbase = f"0x{number:040x}"
    forge = copy / "node_modules" / ".bin" / "forge"
    command = [str(forge), *FORGE_TEST, "--block-coinbase", coinbase, *arguments]
    try:
        run = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "late", ""
    if run.returncode == 0:
        return "survived", ""
    failed = re.search(r"\[FAIL.*\] (\w+)", run.stdout)
    if failed is None:
        return "broken", (run.stdout + run.stderr).strip()[-2000:]
    return "killed", failed[1]


def _play(guard: Guard, copy: Path) -> Result:
    started = time.monotonic()
    outcome, by = "survived", ""
    for tests in ((*EXAMPLES, "--match-contract", NEAREST.get(guard.file, ".")), EXAMPLES, ()):
        if outcome == "survived":
            outcome, by = _forge(copy, guard.number, *tests)
    seconds = round(time.monotonic() - started)
    return Result(guard.file, guard.line, guard.text, outcome, by, seconds)


def _stored(path: Path) -> Result | None:
    with suppress(FileNotFoundError):
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    return None


def _row(result: Result) -> str:
    place = f"{result.file}:{result.line}"
    return f"{result.outcome:9}{place:24}{result.seconds:4} s  {result.guard[:64]:64}  {result.by}"


def _play_all(guards: Sequence[Guard], chosen: Sequence[Guard], again: bool) -> int:
    started = time.monotonic()
    digest = _digest()
    folder = BUILD / digest
    folder.mkdir(parents=True, exist_ok=True)
    results: list[Result | None] = []
    with _compiled(guards, digest) as (copy, clean):
        # Without this every mutant would look killed by whatever is broken anyway.
        if clean[0] != "survived":
            print(f"the tests fail without any mutant: {': '.join(clean)}", file=sys.stderr)
            return 1
        print(f"ready after {time.monotonic() - started:.0f} s", flush=True)
        for guard in chosen:
            path = folder / f"{guard.number}.json"
            with _claimed(folder / f"{guard.number}.lock") as is_mine:
                result = None if again else _stored(path)
                if is_mine and (result is None or result.outcome != "killed"):
                    result = _play(guard, copy)
                    draft = path.with_suffix(f".{os.getpid()}")
                    draft.write_text(json.dumps(asdict(result)), encoding="utf-8")
                    draft.replace(path)
            if result is not None:
                print(_row(result), flush=True)
            results.append(result)
    return _report(results)


def _report(results: Sequence[Result | None]) -> int:
    others = results.count(None)
    bad = [result for result in results if result is not None and result.outcome != "killed"]
    print(f"{len(results)} guards, {len(bad)} not killed, {others} left to other runs")
    for result in bad:
        print(_row(result))
    return 1 if bad or others else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all guards; return 1 unless a test fails without each of them."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", help="names of source files; default: all")
    parser.add_argument("--list", action="store_true", help="print the guards and play none")
    parser.add_argument("--again", action="store_true", help="play killed mutants again")
    options = parser.parse_args(arguments)
    guards = _find_all()
    chosen = [guard for guard in guards if not options.files or guard.file in options.files]
    if options.list or not chosen:
        for guard in chosen:
            print(f"{guard.number:4}  {guard.file}:{guard.line}  {guard.text}")
        return 0 if chosen else 1
    return _play_all(guards, chosen, options.again)


if __name__ == "__main__":
    sys.exit(main())
