"""The errors of Commonweight, branching where a caller would act differently.

Each carries the service that it came from, where it came from one.

CommonweightError
├── Rejected        the sender's fault: recorded with its check number, the round goes on
├── Unavailable     try again, here or elsewhere
│   └── WrongBytes  an answer came, but not the bytes its identifier names
└── Misconfigured   the operator's to fix before anything else can work
    └── DiskFault   this machine's disk is full or broken: it says nothing about anybody else
"""

from typing import Literal

from protocol.text import printable

Service = Literal["chain", "storage", "training", "flower"]


class CommonweightError(Exception):
    """Any failure this project expects; its text is one line fit for a user.

    `service` is what could not do its part, None where it is no service of ours: a full disk, a
    wallet that somebody else uses, a contract's refusal.
    """

    service: Service | None = None

    def __init__(self, text: str, *, service: Service | None = None) -> None:
        # One line whatever it quotes: a node's message, a file's name, somebody's manifest.
        super().__init__(printable(text))
        # Else the class's own stands: a subclass may belong to one service.
        if service is not None:
            self.service = service


class Rejected(CommonweightError):
    """An update breaks a numbered check of docs/protocol.md §6.

    `check` is the number of the check, which is also the reason code recorded on chain;
    `reason` says what was found and what was expected.
    """

    def __init__(self, check: int, reason: str) -> None:
        super().__init__(f"check {int(check)}: {reason}")
        self.check = int(check)
        self.reason = printable(reason)


class Unavailable(CommonweightError):
    """A service or some content is not available now; trying again may help."""


class WrongBytes(Unavailable):
    """Content arrived whose hash is not the one its identifier promises."""

    service = "storage"


class Misconfigured(CommonweightError):
    """A setting, file or argument is wrong; the text says what was expected."""


class DiskFault(Misconfigured):
    """This machine's disk takes no more, or fails."""
