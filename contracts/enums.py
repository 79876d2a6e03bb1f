"""The enumerations of the contract, in its order (contracts/src/IFederation.sol)."""

from enum import IntEnum

# A round's status is not stored: it follows from the facts and the time, so that no transaction is
# needed when a deadline passes.


class Status(IntEnum):
    """Where a round stands, derived by the contract from its facts and the block's time."""

    NONE = 0
    COMMIT = 1
    REVEAL = 2
    PROPOSE = 3
    EXPIRED = 4
    CHALLENGE = 5
    SETTLEABLE = 6
    FINALIZED = 7
    ABANDONED = 8


class Outcome(IntEnum):
    """How a round ended."""

    OPEN = 0
    FINALIZED = 1
    ABANDONED = 2


class SubmissionState(IntEnum):
    """What a participant has done in a round."""

    NONE = 0
    COMMITTED = 1
    REVEALED = 2
    PENALIZED = 3


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
