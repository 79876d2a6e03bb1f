"""The numbers of the screening checks (docs/protocol.md §6)."""

from enum import IntEnum

ACCEPTED = 0
"""The reason code of an update that passed every check."""


class Check(IntEnum):
    """The checks of an update, in order; the number is the reason code on the chain."""

    REACHABLE = 1
    MANIFEST = 2
    ROUND_AND_SPEC = 3
    LAYERS = 4
    DIGESTS = 5
    ROOT = 6
    RANGE = 7
    NORM = 8
    ZERO = 9
    DUPLICATE = 10
    WEAK = 11
    SIMILAR = 12
    HARM = 13
    # Of masked updates (§13).
    BUNDLE = 14
    SILENT = 15
    BLAMED = 16
    TOO_FEW = 17
