"""Why a node did not take a transaction, from its words: clients have no codes in common.

The words are those of geth (core/txpool/errors.go), anvil and reth (PoolError), Erigon
(txpoolcfg.DiscardReason), Nethermind (AcceptTxResult) and Besu (RpcErrorType).
"""

import re
from enum import Enum, auto
from typing import Final


class Refusal(Enum):
    """What to do about it differs."""

    KNOWN = auto()
    """The pool has this very transaction."""
    NONCE = auto()
    """The nonce is used up, or too far ahead: another is needed."""
    OCCUPIED = auto()
    """Another transaction waits under the nonce, and this one offers too little to replace it."""
    PRICE = auto()
    """The pool wants more: it is full, or has a minimum."""
    FEE_CAP = auto()
    """The node itself refuses to pass on a transaction that may cost this much in all."""
    OTHER = auto()


# In this order: "replacement transaction underpriced" is no full pool, and Nethermind's
# "ReplacementNotAllowed" comes with a sentence that names fees.
_WORDS: Final = (
    (Refusal.FEE_CAP, r"configured cap|fee ?cap exceeded"),
    (Refusal.PRICE, r"future transaction tries to replace"),  # geth: full, and the nonce has a gap
    (Refusal.OCCUPIED, r"replacement|could not replace|replace existing"),
    (Refusal.KNOWN, r"already known|alreadyknown|already imported|known transaction|same hash"),
    (
        Refusal.PRICE,
        r"underpriced|(fee|price)s? ?(is )?too ?low|(price|fee).* below|less than.* base ?fee"
        r"|pool ?(is )?full|pool overflow|out of capacity",
    ),
    (Refusal.NONCE, r"nonce"),
)
_PATTERNS: Final = tuple((kind, re.compile(words, re.IGNORECASE)) for kind, words in _WORDS)


def read_refusal(message: str) -> Refusal:
    """Return what kind of refusal a node's error message tells."""
    return next((kind for kind, words in _PATTERNS if words.search(message)), Refusal.OTHER)
