"""The enumerations of the contract, in its order (contracts/src/IFederation.sol)."""

from enum import IntEnum

# A round's status is not stored: it follows from the facts, the time and the block's number, so
# that no transaction is needed when a deadline passes.


class Privacy(IntEnum):
    """Whether the updates themselves or only their sum can be read."""

    CLEAR = 0
    MASKED = 1


class Scoring(IntEnum):
    """What the score of an accepted update says."""

    EQUAL = 0
    HELD_OUT = 1


class Status(IntEnum):
    """Where a round stands, derived by the contract from its facts and the block.

    SEAL, UNMASK, ASSIST and VOID are phases of masked rounds only.
    """

    NONE = 0
    SEED = 1
    COMMIT = 2
    REVEAL = 3
    SEAL = 4
    UNMASK = 5
    ASSIST = 6
    VOID = 7
    PROPOSE = 8
    EXPIRED = 9
    CHALLENGE = 10
    SETTLEABLE = 11
    FINALIZED = 12
    ABANDONED = 13
    UNSEEDED = 14

    @property
    def is_ended(self) -> bool:
        """Whether the round was finalized or abandoned."""
        return self in (Status.FINALIZED, Status.ABANDONED)


class Stage(IntEnum):
    """What is stored of a round's way."""

    OPEN = 0
    PROPOSED = 1
    FINALIZED = 2
    ABANDONED = 3


class SubmissionState(IntEnum):
    """What a participant has done in a round; the last three where updates are masked.

    UNMASKED posted its secrets itself, for RECOVERED others did, OBJECTED is UNMASKED and objects.
    """

    NONE = 0
    COMMITTED = 1
    REVEALED = 2
    PENALIZED = 3
    UNMASKED = 4
    RECOVERED = 5
    OBJECTED = 6


class AggregatorState(IntEnum):
    """Whether an address may aggregate, has posted its bond, or has lost it."""

    UNLISTED = 0
    LISTED = 1
    BONDED = 2
    SLASHED = 3


class RequestState(IntEnum):
    """Whether a leaf is requested, or was posted; NONE before, and once a request was settled."""

    NONE = 0
    OPEN = 1
    POSTED = 2
