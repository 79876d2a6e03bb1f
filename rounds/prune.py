"""Removes the files that no round from a given one on needs, so that a role's disk stays flat.

Kept are the round's own files; those of the two finalized rounds before it, with whose updates
check 12 compares; those of the last two rounds, which a reorganisation may bring back; the model
that the round starts from, and the one before the last movement.
"""

import re
import shutil
from itertools import islice

from rounds.context import RoundContext

ROUNDS_COMPARED = 2  # finalized rounds whose updates check 12 compares with
_RECENT = 2
_ROUND = re.compile(r"round-(\d{4,})")


def prune(context: RoundContext) -> None:
    """Remove the files of rounds and models that neither `context` nor a later round needs."""
    needed = {each.round_id for each in islice(context.finalized_before(), ROUNDS_COMPARED)}
    for folder in context.workspace.glob("round-*"):
        found = _ROUND.fullmatch(folder.name)
        number = int(found.group(1)) if found else context.round_id
        if number < context.round_id - _RECENT and number not in needed:
            shutil.rmtree(folder, ignore_errors=True)
    changed = context.last_change()
    models = {context.model} | ({changed.model} if changed else set())
    kept = {context.model_folder(model).path for model in models}
    for folder in context.model_folder(context.model).path.parent.glob("*"):
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)
