"""A daemon as a command line: what to start, and where it answers then."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A daemon whose folder is ready. `mark` stands in its command line, and in no other's."""

    command: tuple[str, ...]
    url: str
    mark: str
    log: Path
