"""Plays malformed inputs to every parser of bytes from outside.

    python -m tests.fuzz.play --inputs 1000000 --seed 7
    python -m tests.fuzz.play --only keystore --number 1234 --seed 7      # one input again

Each input is a recorded answer or a good file with a change that follows from the seed. Whatever it
is, the outcome must be a value or one of this project's errors, in less than a second, and without
memory that the input's size does not explain.
"""

import argparse
import faulthandler
import multiprocessing
import random
import resource
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Final, Protocol
from unittest.mock import patch

from protocol.errors import CommonweightError
from tests.fuzz.answers import record
from tests.fuzz.files import documents
from tests.fuzz.kept import kept_by
from tests.fuzz.stores import recorded_stores
from tests.world import World

MOST_SECONDS: Final = 1.0  # of this thread's own time, so that a busy machine counts for nothing
MOST_GROWTH: Final = 128 << 20  # of memory, over all inputs of a target
_HUNG_SECONDS: Final = 60.0
# Answers take several times as long as files, and the two longest readings ten times as long.
_SHARE_OF_ANSWERS: Final = 0.1
_LONG: Final = {"history", "phase"}
_PROCESSES: Final = 2


class Target(Protocol):
    """A parser with its good input."""

    def play(self, random: random.Random) -> None:
        """Parse a changed input; raises what the parser raises."""


@contextmanager
def targets(folder: Path) -> Iterator[dict[str, Target]]:
    """Yield all parsers by name; a chain and a store run meanwhile."""
    memory = Path("/dev/shm")  # a disk would take most of the time
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as kept,
        World(folder) as world,
        without_waiting(),
    ):
        world.play()
        with recorded_stores(world) as stores:
            files: dict[str, Target] = {**documents(Path(kept))}
            files |= kept_by(world, Path(kept) / "cache")
            yield {**files, **record(world), **stores}


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let nothing wait between two attempts."""
    at_once = SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic)
    with patch("chain.log_pages._PAUSES_S", ()), patch("ethereum.transactions.time", at_once):
        yield


def play(name: str, target: Target, seed: int, number: int) -> str:
    """Play input `number` of a target; return its outcome: an error's name, or "taken".

    Raises AssertionError when it takes too long, and whatever is none of this project's errors.
    """
    began = time.thread_time()
    faulthandler.dump_traceback_later(_HUNG_SECONDS, exit=True)
    try:
        target.play(random.Random(f"{seed}/{name}/{number}"))
        outcome, text = "taken", ""
    except CommonweightError as error:
        outcome = type(error).__name__
        text = str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert text.isprintable(), f"{text!r} is more than a line"
    took = time.thread_time() - began
    assert took < MOST_SECONDS, f"{took:.1f} s"
    return outcome


def play_all(
    found: Mapping[str, Target], seed: int, counts: Mapping[str, int]
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Return the outcomes by target, and one line per fault; at most four faults a target."""
    outcomes: dict[str, Counter[str]] = {}
    faults: list[str] = []
    for name, count in counts.items():
        outcomes[name], before, peak = Counter(), len(faults), _peak()
        for number in range(count):
            try:
                outcomes[name][play(name, found[name], seed, number)] += 1
            except Exception as error:
                again = f"--seed {seed} --only {name!r} --number {number}"
                faults.append(f"{name}: {error!r}"[:300] + f" ({again})")
                if len(faults) - before == 3:
                    break
        if (grown := _peak() - peak) > MOST_GROWTH:
            faults.append(f"{name}: memory grew by {grown:,} bytes")
    return outcomes, faults


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def counts_of(names: list[str], answers: set[str], inputs: int) -> dict[str, int]:
    """Return how many of `inputs` each target gets."""
    weights = {name: 0.1 if name in _LONG else 1.0 for name in names}
    total = {
        is_answer: sum(weights[name] for name in names if (name in answers) is is_answer)
        for is_answer in (True, False)
    }
    share = {True: _SHARE_OF_ANSWERS, False: 1 - _SHARE_OF_ANSWERS}
    return {
        name: round(inputs * share[name in answers] * weights[name] / total[name in answers]) + 1
        for name in names
    }


def _part(seed: int, inputs: int, part: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Play every other target in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, targets(Path(folder)) as found:
        answers = {name for name, target in found.items() if hasattr(target, "recorded")}
        counts = counts_of(list(found), answers, inputs)
        mine = dict(list(counts.items())[part::_PROCESSES])
        return play_all(found, seed, mine)


def main() -> None:
    """Play and print what was played; exit with 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only")
    parser.add_argument("--number", type=int, default=0)
    given = parser.parse_args()
    if given.only is not None:
        with tempfile.TemporaryDirectory() as folder, targets(Path(folder)) as found:
            print(play(given.only, found[given.only], given.seed, given.number))
        return
    began = time.monotonic()
    print(f"seed {given.seed}, {given.inputs:,} inputs", flush=True)
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        places = [(given.seed, given.inputs, part) for part in range(_PROCESSES)]
        parts = pool.starmap(_part, places)
    faults = [line for _, lines in parts for line in lines]
    played = 0
    for outcomes, _ in parts:
        for name, counter in sorted(outcomes.items()):
            played += counter.total()
            told = ", ".join(f"{count:,} {what}" for what, count in counter.most_common())
            print(f"{name:<20} {told}")
    print(f"{played:,} inputs in {time.monotonic() - began:.0f} s, {len(faults)} faults")
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
