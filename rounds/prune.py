"""Removes the files that no round from a given one on needs, so that a role's disk stays flat.

Kept are the round's own files; those of the two finalized rounds before it, with whose updates
check 12 compares; those of the last two rounds, which a reorganisation may bring back; the model
that the round starts from, and the one before the last movement.
"""

import re
import shutil
from itertools import islice

from protocol.types import RoundId
from rounds.context import RoundContext

ROUNDS_COMPARED = 2  # finalized rounds whose updates check 12 compares with
_RECENT = 2
_ROUND = re.compile(r"round-(\d{4,})")


def rounds_on_disk(context: RoundContext) -> list[RoundId]:
    """Return the rounds that have a folder, in ascending order."""
    names = (_ROUND.fullmatch(folder.name) for folder in context.workspace.glob("round-*"))
    return sorted(RoundId(int(found.group(1))) for found in names if found)


def stale_rounds(context: RoundContext) -> list[RoundId]:
    """Return the rounds on disk that neither `context` nor a later round needs."""
    needed = {each.round_id for each in islice(context.finalized_before(), ROUNDS_COMPARED)}
    return [
        number
        for number in rounds_on_disk(context)
        if number < context.round_id - _RECENT and number not in needed
    ]


def prune(context: RoundContext) -> None:
    """Remove the files of rounds and models that neither `context` nor a later round needs."""
    for number in stale_rounds(context):
        shutil.rmtree(context.round_folder(number), ignore_errors=True)
    prune_models(context)


def prune_models(context: RoundContext) -> None:
    """Remove the models that a round started from, but for those that a later round needs."""
    changed = context.last_change()
    models = {context.model} | ({changed.model} if changed else set())
    kept = {context.model_folder(model).path for model in models}
    for folder in context.model_folder(context.model).path.parent.glob("*"):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)
