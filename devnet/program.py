"""What a daemon of the devnet is to the code that starts and stops it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A daemon to start: its command, and where it will answer.

    `mark` is a word of the command line, by which a process is recognised before it is stopped.
    """

    command: tuple[str, ...]
    url: str
    mark: str
    log: Path
