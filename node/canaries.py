"""Canaries in a participant's own data: rows that nobody could guess, to measure what leaks.

    canaries.json    {"planted": [{"question": …, "answer": …}, …], "kept": […], "times": 4}

`planted` are trained on, each `times` times a pass; `kept` are as many like them that never are.
Whoever ranks one of the first above the second has read it out of what was published. The file is
as private as the data.
"""

from dataclasses import dataclass
from pathlib import Path

from protocol.errors import Misconfigured
from storage.files import read_json, write_json
from training.examples import Example
from training.leakage import make_canaries


@dataclass(frozen=True)
class Canaries:
    """Those that are planted, each `times` times, and as many that are not."""

    planted: tuple[Example, ...]
    kept: tuple[Example, ...]
    times: int

    @classmethod
    def make(cls, count: int, times: int) -> "Canaries":
        """Return new ones, drawn from the operating system's randomness."""
        planted, kept = make_canaries(count)
        return cls(tuple(planted), tuple(kept), times)

    @classmethod
    def load(cls, path: Path) -> "Canaries":
        """Return those of a file; raises Misconfigured with one line."""
        found = read_json(path)
        try:
            parts = [
                tuple(Example(each["question"], each["answer"]) for each in found[part])
                for part in ("planted", "kept")
            ]
            times = int(found["times"])
        except (KeyError, TypeError, ValueError) as error:
            raise Misconfigured(f"{path} is no file of `commonweight privacy plant`") from error
        if not all(parts) or times < 1:
            raise Misconfigured(f"{path} has no canaries")
        return cls(parts[0], parts[1], times)

    def write(self, path: Path) -> None:
        """Write the file, readable by its owner alone."""
        planted, kept = (
            [{"question": each.question, "answer": each.answer} for each in part]
            for part in (self.planted, self.kept)
        )
        write_json(path, {"planted": planted, "kept": kept, "times": self.times}, mode=0o600)

    @property
    def rows(self) -> list[Example]:
        """The planted ones as they stand among the data, each time a record of its own."""
        return [each for each in self.planted for _ in range(self.times)]


def planted_rows(path: Path | None) -> list[Example]:
    """Return the rows that a file of canaries adds to the data; none without a file."""
    return [] if path is None else Canaries.load(path).rows
