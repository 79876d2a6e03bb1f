"""The errors of Commonweight, branching where a caller would act differently.

CommonweightError
├── Rejected        the sender's fault: recorded with its check number, the round goes on
├── Unavailable     try again, here or elsewhere
│   └── WrongBytes  an answer came, but not the bytes its identifier names
└── Misconfigured   the operator's to fix before anything else can work
"""


class CommonweightError(Exception):
    """Any failure this project expects; its text is one line fit for a user."""


class Rejected(CommonweightError):
    """An update breaks a numbered check of docs/protocol.md §6.

    `check` is the number of the check, which is also the reason code recorded on chain;
    `reason` says what was found and what was expected.
    """

    def __init__(self, check: int, reason: str) -> None:
        super().__init__(f"check {int(check)}: {reason}")
        self.check = int(check)
        self.reason = reason


class Unavailable(CommonweightError):
    """A service or some content cannot be had now; trying again may help."""


class WrongBytes(Unavailable):
    """Content arrived whose hash is not the one its identifier promises."""


class Misconfigured(CommonweightError):
    """A setting, file or argument is wrong; the text says what was expected."""
