"""Division of one data set among simulated participants: alike, unlike, or by a field.

iid        shuffled and cut into equal parts
dirichlet  each group's examples are divided in proportions drawn from Dirichlet(alpha): the
           smaller alpha, the less alike the participants (arXiv:1909.06335)
field      whole groups, the largest to the participant with the least so far
"""

# flwr-datasets has these too, but no release of it installs beside this project's transformers: see
# docs/decisions/0010-own-partitioners.md.

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.errors import Misconfigured

Parts = list[NDArray[np.int64]]

_DRAWS: Final = 200  # for a small alpha most draws leave somebody with next to nothing


def partition_iid(count: int, participants: int, seed: int) -> Parts:
    """Return the sorted example numbers of each participant; shares differ by one at most."""
    _check_enough(count, participants, 1)
    order = np.random.default_rng(seed).permutation(count).astype(np.int64)
    return [np.sort(part) for part in np.array_split(order, participants)]


def partition_dirichlet(
    groups: Sequence[str], participants: int, alpha: float, seed: int, smallest: int = 10
) -> Parts:
    """Return the sorted example numbers of each participant; every example is in one part.

    Draws again until everybody has at least `smallest` examples. Raises Misconfigured when no draw
    gives them so many.
    """
    _check_enough(len(groups), participants, smallest)
    rng = np.random.default_rng(seed)
    members = [np.array(numbers, np.int64) for numbers in _members(groups).values()]
    for _ in range(_DRAWS):
        shares: list[list[NDArray[np.int64]]] = [[] for _ in range(participants)]
        for numbers in members:
            proportions = rng.dirichlet(np.full(participants, alpha))
            cuts = np.round(np.cumsum(proportions)[:-1] * len(numbers)).astype(np.int64)
            for share, piece in zip(shares, np.split(rng.permutation(numbers), cuts), strict=True):
                share.append(piece)
        parts = [np.sort(np.concatenate(share)) for share in shares]
        if min(len(part) for part in parts) >= smallest:
            return parts
    raise Misconfigured(
        f"Dirichlet({alpha:g}) gave somebody fewer than {smallest} examples in {_DRAWS} draws: "
        "raise alpha, or take fewer participants"
    )


def partition_by_group(groups: Sequence[str], participants: int) -> Parts:
    """Return the sorted example numbers of each participant; no group is divided."""
    members = _members(groups)
    if len(members) < participants:
        raise Misconfigured(
            f"the field has {len(members)} values, too few for {participants} participants"
        )
    shares: list[list[int]] = [[] for _ in range(participants)]
    # The largest groups first, so that the smaller ones can even out the shares.
    for _, numbers in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        min(shares, key=len).extend(numbers)
    return [np.sort(np.array(share, np.int64)) for share in shares]


def _members(groups: Sequence[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    return dict(sorted(members.items()))


def _check_enough(count: int, participants: int, smallest: int) -> None:
    if count < participants * smallest:
        raise Misconfigured(
            f"{count} examples are too few for {participants} participants with {smallest} or more"
        )
