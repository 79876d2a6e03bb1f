"""The sum of a round's masked updates, once every mask that is left in it is known (§13)."""

from collections.abc import Sequence
from hashlib import sha256

from chain.history import RoundHistory
from protocol.errors import Unavailable
from protocol.masking import Mask, pair_masks
from protocol.reveal import Reveal
from rounds.average import write_sum
from rounds.context import RoundContext
from storage.files import write_atomically
from storage.layers import LayerFolder


def masks_left(told: RoundHistory) -> list[Mask]:
    """Return the masks in the sum of the set: their own, and those with who is outside.

    Raises Unavailable while the secrets of a member of the set are unknown.
    """
    if told.masking.silent:
        silent = told.masking.silent[0]
        raise Unavailable(f"round {told.round_id}: the secrets of {silent} are unknown")
    masks, outside = [], told.outside
    for member in told.masking.members:
        own, *seeds = told.masking.seeds_of(member)
        masks.append(Mask(own, 1))
        masks += pair_masks(member, dict(zip(outside, seeds, strict=True)))
    return masks


def sum_updates(
    context: RoundContext, reveals: Sequence[Reveal], folders: Sequence[LayerFolder]
) -> LayerFolder:
    """Return the files of S, computed of the set's masked updates unless they are there already.

    Raises Unavailable as `masks_left`.
    """
    masks, target = masks_left(context.told), context.sum_folder
    # Whatever it depends on: after a reorganisation the same round may have another sum.
    parts = [*(reveal.root for reveal in reveals), *(mask.seed for mask in masks)]
    inputs, mark = sha256(b"".join(parts)).digest(), target.path / "inputs"
    if mark.exists() and mark.read_bytes() == inputs:
        return target
    mark.unlink(missing_ok=True)
    write_sum(context.spec, folders, masks, target)
    write_atomically(mark, inputs)
    return target
