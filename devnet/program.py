"""The description of a daemon, for the code that starts and stops it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A daemon to start: its command, the URL at which it will answer, and its log.

    `mark` is a part of the command line, by which a process is recognised before it is stopped.
    """

    command: tuple[str, ...]
    url: str
    mark: str
    log: Path
